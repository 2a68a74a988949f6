-- The outbox: one row for each finished round, written by the transaction that finished it. It survives every outage.

set local lock_timeout = '2s';

-- True for a finished round. Our indexes use a function instead of `is not null`, so that they depend on this schema
-- and are dropped with it. The planner inlines the function in indexes and queries: it finds the latest of 5 million
-- rounds in 0.01 ms.
create function datastream.is_finished(anyelement) returns boolean
language sql immutable parallel safe
as $$ select $1 is not null $$;

-- Microseconds since 1970, exact. Null for infinity and for years that a bigint cannot hold (294247 and later).
-- It computes whole seconds and the fraction apart, because `extract` before PostgreSQL 14 uses floating point.
-- All names are qualified: callers have any search_path.
create function datastream.micros(timestamptz) returns bigint
language sql immutable parallel safe
as $$
  select case when pg_catalog.isfinite($1) and $1 operator(pg_catalog.<) pg_catalog.timestamptz '294247-01-01 00:00:00+00' then
    (extract(epoch from pg_catalog.date_trunc('second', pg_catalog.timezone('UTC', $1)))::bigint operator(pg_catalog.*) 1000000)
    operator(pg_catalog.+) (extract(microseconds from pg_catalog.timezone('UTC', $1))::bigint operator(pg_catalog.%) 1000000)
  end
$$;

-- Converts a timestamp of this time zone to timestamptz. Null for infinity, and if the zone would shift it out of
-- PostgreSQL's range: an error would fail the game's write, through the index, and every query that reads the round.
-- The planner inlines this function too.
create function datastream.moment(zone text, moment timestamp) returns timestamptz
language sql immutable parallel safe
as $$
  select case when moment operator(pg_catalog.>=) timestamp '4713-01-01 00:00:00 BC' and moment operator(pg_catalog.<) timestamp '294276-01-01 00:00:00'
    then pg_catalog.timezone(zone, moment)
  end
$$;

-- Prints JSON as jsonb does. Returns it unchanged if jsonb rejects it: json accepts `\u0000`, half of a surrogate pair
-- and numbers beyond numeric. One such round must not fail a query that reads many. The block writes nothing, so it
-- takes no transaction id.
create function datastream.as_jsonb(json) returns text
language plpgsql immutable
as $$
begin
  return $1::pg_catalog.jsonb::pg_catalog.text;
exception when others then
  return $1::pg_catalog.text;
end
$$;

-- Every role that writes a round or reads a view calls these. The grant is explicit because a database may have
-- `alter default privileges revoke execute on functions from public`. Then an index predicate would fail the game's insert.
grant execute on function datastream.is_finished(anyelement), datastream.micros(timestamptz),
  datastream.moment(text, timestamp), datastream.as_jsonb(json) to public;

-- xid     the transaction that finished the round; 64 bits, so that it never wraps
-- before  the oldest transaction in progress at that time; a replay after this round starts at that xid, because no
--         round published after this one has a smaller xid
-- at      the time of the write, for retention and latency figures
-- One index, no sequence and no foreign key keep the cost of a write low, and no writer waits for another.
create table datastream.outbox (
  xid xid8 not null default pg_current_xact_id(),
  before xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
  round_id bigint not null,
  at timestamptz not null default clock_timestamp(),
  primary key (xid, round_id)
);

-- One row: the greatest xid and the latest time that `trim` has deleted. Resume points up to that xid are incomplete,
-- and `reconcile` does not add rounds up to that time again.
create table datastream.trimmed (
  one boolean primary key default true check (one),
  xid xid8 not null,
  at timestamptz not null
);

-- Versions of migrations that earlier programs may go on with. Such a migration adds its own version here. `serve` ends if
-- the database has a migration that the program does not know and that is not listed here.
create table datastream.compatible_migrations (
  version bigint primary key
);
