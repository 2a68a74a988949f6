-- The outbox: what a finishing transaction leaves behind, and the one truth that survives an outage.

set local lock_timeout = '2s';

-- True for a finished round. A function rather than `is not null` in indexes of ours, so that they
-- depend on this schema and fall with it; the planner replaces the call by the comparison, in the
-- index and in the query alike (0.01 ms to the latest of 5 million rounds).
create function datastream.is_finished(anyelement) returns boolean
language sql immutable parallel safe
as $$ select $1 is not null $$;

-- Microseconds since 1970, exact; null for infinity and beyond what a bigint holds (the year 294247).
-- Seconds and their fraction apart: before PostgreSQL 14 `extract` computes in floating point. It is
-- called under the search_path of whoever writes a round: all names are qualified.
create function datastream.micros(timestamptz) returns bigint
language sql immutable parallel safe
as $$
  select case when pg_catalog.isfinite($1) and $1 operator(pg_catalog.<) pg_catalog.timestamptz '294247-01-01 00:00:00+00' then
    (extract(epoch from pg_catalog.date_trunc('second', pg_catalog.timezone('UTC', $1)))::bigint operator(pg_catalog.*) 1000000)
    operator(pg_catalog.+) (extract(microseconds from pg_catalog.timezone('UTC', $1))::bigint operator(pg_catalog.%) 1000000)
  end
$$;

-- A moment without a time zone as one of this zone; null for infinity, and where the zone would shift it
-- beyond what PostgreSQL holds: that would fail a game's write through the index, and every query that
-- meets the round. The planner replaces the call here too.
create function datastream.moment(zone text, moment timestamp) returns timestamptz
language sql immutable parallel safe
as $$
  select case when moment operator(pg_catalog.>=) timestamp '4713-01-01 00:00:00 BC' and moment operator(pg_catalog.<) timestamp '294276-01-01 00:00:00'
    then pg_catalog.timezone(zone, moment)
  end
$$;

-- A JSON text as jsonb prints it, or as it stands where jsonb does not take it: `\u0000`, half of a
-- surrogate pair and a number beyond numeric are valid json. One such round must not fail a query that
-- reads many. It writes nothing, so that its block takes no transaction id.
create function datastream.as_jsonb(json) returns text
language plpgsql immutable
as $$
begin
  return $1::pg_catalog.jsonb::pg_catalog.text;
exception when others then
  return $1::pg_catalog.text;
end
$$;

-- All are called on behalf of whoever writes a round or reads a view. Said explicitly because a
-- database may be hardened by `alter default privileges revoke execute on functions from public`,
-- and then an index predicate would fail the game's insert.
grant execute on function datastream.is_finished(anyelement), datastream.micros(timestamptz),
  datastream.moment(text, timestamp), datastream.as_jsonb(json) to public;

-- xid     the transaction that finished the round, as a number that never wraps;
-- before  no round that was delivered after this one has a smaller xid: replay starts there;
-- at      when, by the clock: for retention and for latency figures.
-- One index, no sequence, no foreign key: the least a writer can pay, and nothing that can wait.
create table datastream.outbox (
  xid xid8 not null default pg_current_xact_id(),
  before xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
  round_id bigint not null,
  at timestamptz not null default clock_timestamp(),
  primary key (xid, round_id)
);

-- The greatest xid, and the latest time, that `trim` has deleted: one row. A resume point from before
-- that cannot be honored completely, and must not look as if it were; nor is a round from before it
-- missing in the outbox.
create table datastream.trimmed (
  one boolean primary key default true check (one),
  xid xid8 not null,
  at timestamptz not null
);

-- Later migrations that programs of an earlier version may go on with. Such a migration adds its own version here. An
-- earlier program stops at a migration that it does not know and does not find here.
create table datastream.compatible_migrations (
  version bigint primary key
);
