-- The outbox: the transaction that finishes a round adds one row to it. So no outage of the server loses a round.

set local lock_timeout = '2s';

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

-- The same for a date, which stands for its midnight. (A date may be outside the range of timestamp.)
create function datastream.moment(zone text, day date) returns timestamptz
language sql immutable parallel safe
as $$
  select case when day operator(pg_catalog.>=) pg_catalog.date '4713-01-01 BC' and day operator(pg_catalog.<) pg_catalog.date '294276-01-01'
    then pg_catalog.timezone(zone, day::timestamp)
  end
$$;

-- Converts microseconds since 1970, exactly: a product with an interval is computed in floating point, so the whole
-- seconds and the rest come apart. Null outside the years 1 to 9999, which no round can have.
create function datastream.moment_of(micros bigint) returns timestamptz
language sql immutable parallel safe
as $$
  select case when micros operator(pg_catalog.>=) (-62135596800000000) and micros operator(pg_catalog.<) 253402300800000000
    then (pg_catalog.timestamptz '1970-01-01 00:00:00+00'
      operator(pg_catalog.+) ((micros operator(pg_catalog./) 1000000) operator(pg_catalog.*) interval '1 second'))
      operator(pg_catalog.+) ((micros operator(pg_catalog.%) 1000000) operator(pg_catalog.*) interval '1 microsecond')
  end
$$;

-- Converts an amount of units since 1970, of `micros` each. Null for NaN, for infinity and for times that no round can have.
create function datastream.moment_of(amount numeric, micros bigint) returns timestamptz
language sql immutable parallel safe
as $$
  select datastream.moment_of((case
    when amount operator(pg_catalog.>) (-62135596800000001) and amount operator(pg_catalog.<) 253402300800000001
      and (amount operator(pg_catalog.*) micros) operator(pg_catalog.<) 253402300800000001
      and (amount operator(pg_catalog.*) micros) operator(pg_catalog.>) (-62135596800000001)
    then pg_catalog.round(amount operator(pg_catalog.*) micros) end)::bigint)
$$;

-- The same in floating point, whose 15 digits as numeric would be too few.
create function datastream.moment_of(amount double precision, micros bigint) returns timestamptz
language sql immutable parallel safe
as $$
  select datastream.moment_of((case
    when amount operator(pg_catalog.>) (-62135596800000001)::double precision and amount operator(pg_catalog.<) 253402300800000001::double precision
      and (amount operator(pg_catalog.*) micros::double precision) operator(pg_catalog.<) 253402300800000001::double precision
      and (amount operator(pg_catalog.*) micros::double precision) operator(pg_catalog.>) (-62135596800000001)::double precision
    then pg_catalog.round(amount operator(pg_catalog.*) micros::double precision) end)::bigint)
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

-- `is_text` says whether UTF-8 has all characters of a text: in an encoding other than UTF8 a row may hold bytes that stand for none
-- (WIN1252: 0x81), and an answer with one of them is an error. `is_key` says whether an id can be sent: it is such a text of 1 to 200
-- bytes without control characters. `is_printable` says the same of a part of an id, whatever its length. `bad_key` is the outbox's key for any other: a hash, and the beginning of the id for the log. It is
-- short, whatever the row holds, so that neither the write nor the outbox suffers.
do $do$
declare
  encoding text := getdatabaseencoding();
  -- In SQL_ASCII each byte may be a part of a character.
  is_single boolean := encoding <> 'SQL_ASCII' and pg_encoding_max_length((select d.encoding from pg_database d where d.datname = current_database())) = 1;
  control text := '\x01-\x1f\x7f';
  none text := '';  -- the bytes that stand for no character
  is_text text := 'select true';
  replaced text;
  utf8 bytea;
begin
  if encoding = 'UTF8' then
    control := control || '-\u009f';
  elsif is_single then
    for byte in 128..255 loop
      begin
        utf8 := convert(set_byte('\x00', 0, byte), encoding, 'UTF8');
        control := control || case when utf8 between '\xc280' and '\xc29f' then '\x' || to_hex(byte) else '' end;
      exception when others then
        none := none || '\x' || to_hex(byte);
      end;
    end loop;
    if none <> '' then
      is_text := format('select (value collate pg_catalog."C") operator(pg_catalog.!~) %L', '[' || none || ']');
    end if;
  end if;
  if encoding = 'UTF8' or is_single then
    execute format('create function datastream.is_text(value text) returns boolean language sql immutable parallel safe as $body$ %s $body$', is_text);
    replaced := '[' || control || none || ']';
  else
    create function datastream.is_text(value text) returns boolean
    language plpgsql immutable
    as $body$
    begin
      return pg_catalog.convert_to(value, 'UTF8') is not null;
    exception when others then
      return false;
    end
    $body$;
    replaced := '[^\x20-\x7e]';
  end if;
  execute format($$create function datastream.is_key(key text) returns boolean
    language sql immutable%s
    as $body$
      select pg_catalog.octet_length(key) operator(pg_catalog.<=) 200 and key operator(pg_catalog.<>) ''
        and (key collate pg_catalog."C") operator(pg_catalog.!~) %L%s
    $body$ $$, case when encoding = 'UTF8' or is_single then ' parallel safe' else '' end, '[' || control || ']',
    case when encoding = 'UTF8' then '' else ' and datastream.is_text(key)' end);
  execute format($$create function datastream.is_printable(part text) returns boolean
    language sql immutable%s
    as $body$ select (part collate pg_catalog."C") operator(pg_catalog.!~) %L%s $body$ $$,
    case when encoding = 'UTF8' or is_single then ' parallel safe' else '' end, '[' || control || ']',
    case when encoding = 'UTF8' then '' else ' and datastream.is_text(part)' end);
  execute format($$create function datastream.bad_key(key text) returns text
    language sql immutable parallel safe
    as $body$
      select pg_catalog.concat_ws(' ', pg_catalog.hashtext(key)::pg_catalog.text,
        pg_catalog.regexp_replace(pg_catalog.left(key, 40) collate pg_catalog."C", %L, '?', 'g'))
    $body$ $$, replaced);
end
$do$;

-- A part of an id on the wire as a value of its column's type, or null if it is not written as the column's values are. So
-- PostgreSQL uses the column's index, and an id that a client made up never fails a query. These run for each looked up round:
-- lengths are compared apart, because a regular expression with a bound like {1,18} takes twice as long (1.1 us, without 0.4).
create function datastream.integer_of(part text) returns bigint
language sql immutable parallel safe
as $$
  select case when part operator(pg_catalog.~) '^(0|-?[1-9][0-9]*)$' then case
    when pg_catalog.octet_length(part) operator(pg_catalog.<) 19 then part::bigint
    when pg_catalog.octet_length(part) operator(pg_catalog.<=) 20 and part::numeric operator(pg_catalog.>=) (-9223372036854775808)
      and part::numeric operator(pg_catalog.<=) 9223372036854775807 then part::bigint end
  end
$$;

create function datastream.numeric_of(part text) returns numeric
language sql immutable parallel safe
as $$
  select case when part operator(pg_catalog.~) '^(0|-?[1-9][0-9]*)$' and pg_catalog.octet_length(part) operator(pg_catalog.<=) 200 then part::numeric end
$$;

-- (A regular expression of the 36 characters takes 2.6 us, these three conditions 0.6.)
create function datastream.uuid_of(part text) returns uuid
language sql immutable parallel safe
as $$
  select case when part operator(pg_catalog.~~) '________-____-____-____-____________' and part operator(pg_catalog.!~~) '%-%-%-%-%-%'
    and part operator(pg_catalog.!~) '[^0-9a-f-]' then part::pg_catalog.uuid end
$$;

-- Every role that reads a view calls these. The grant is explicit because a database may have
-- `alter default privileges revoke execute on functions from public`.
grant execute on function datastream.micros(timestamptz), datastream.moment(text, timestamp), datastream.moment(text, date),
  datastream.moment_of(bigint), datastream.moment_of(numeric, bigint), datastream.moment_of(double precision, bigint),
  datastream.as_jsonb(json), datastream.is_text(text), datastream.is_key(text), datastream.is_printable(text),
  datastream.bad_key(text), datastream.integer_of(text), datastream.numeric_of(text), datastream.uuid_of(text) to public;

-- xid         the transaction that finished the round; 64 bits, so that it never wraps
-- before      the oldest transaction in progress at that time; a replay after this round starts at that xid, because no
--             round published after this one has a smaller xid
-- at          the time of the write, for retention and latency figures
-- attachment  the number of the attached table; negative if the round's id cannot be sent (then the key is that of `bad_key`)
-- round_id, round_key  the id: a number and an empty text, or 0 and the string that clients see. So equal keys are equal ids, and
--             ids of two tables are different rows
-- One index, no sequence and no foreign key keep the cost of a write low, and no writer waits for another.
create table datastream.outbox (
  xid xid8 not null default pg_current_xact_id(),
  before xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
  at timestamptz not null default clock_timestamp(),
  round_id bigint not null,
  attachment integer not null,
  round_key text collate "C" not null default '',
  primary key (xid, attachment, round_id, round_key)
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
