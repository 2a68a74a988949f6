set local lock_timeout = '2s';

drop table if exists datastream.compatible_migrations;
drop table if exists datastream.trimmed;
drop table if exists datastream.outbox;
drop function if exists datastream.uuid_of(text);
drop function if exists datastream.numeric_of(text);
drop function if exists datastream.integer_of(text);
drop function if exists datastream.bad_key(text);
drop function if exists datastream.is_printable(text);
drop function if exists datastream.is_key(text);
drop function if exists datastream.is_text(text);
drop function if exists datastream.as_jsonb(json);
drop function if exists datastream.moment_of(double precision, bigint);
drop function if exists datastream.moment_of(numeric, bigint);
drop function if exists datastream.moment_of(bigint);
drop function if exists datastream.moment(text, date);
drop function if exists datastream.moment(text, timestamp);
drop function if exists datastream.micros(timestamptz);
