set local lock_timeout = '2s';

drop table if exists datastream.compatible_migrations;
drop table if exists datastream.trimmed;
drop table if exists datastream.outbox;
drop function if exists datastream.as_jsonb(json);
drop function if exists datastream.moment(text, timestamp);
drop function if exists datastream.micros(timestamptz);
drop function if exists datastream.is_finished(anyelement) cascade;  -- also drops copies of our index on other tables
