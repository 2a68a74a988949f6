-- Creates roles that have only the rights which Data Stream needs. Run it with psql as a superuser, or as the owner of the
-- schema datastream and of the game's tables, after `datastream migrate` and `attach`. You may run it again.
--
--   datastream roles | psql "$DATABASE_URL"              or, in the source tree:
--   psql "$DATABASE_URL" -f sql/roles.sql
--   psql "$DATABASE_URL" -v owner=ds_owner -v reader=ds_reader -f sql/roles.sql     other names
--
-- owner   cannot log in. It owns the objects of the schema, so triggers and views run with its rights only: to insert into the
--         outbox and to read the attached tables.
-- reader  the role of `datastream serve` and `doctor`. Set its password with \password datastream_reader.
-- The game's roles need no rights and get none.
--
-- Roles belong to the whole server. To drop them, run in each database `drop schema datastream cascade`, `drop owned by
-- datastream_owner` (the grants on the game's tables) and, if PUBLIC may not connect, `revoke connect on database NAME from
-- datastream_reader`. Then run `drop role datastream_owner, datastream_reader`.
\set ON_ERROR_STOP on
\if :{?owner} \else \set owner datastream_owner
\endif
\if :{?reader} \else \set reader datastream_reader
\endif
set client_min_messages = warning;
begin;
set local lock_timeout = '2s';

select format('create role %I nologin nosuperuser nocreatedb nocreaterole noinherit', :'owner')
where not exists (select from pg_roles where rolname = :'owner') \gexec
-- `inherit`, so that a granted role such as pg_read_all_stats (for `doctor`) takes effect.
select format('create role %I login nosuperuser nocreatedb nocreaterole inherit', :'reader')
where not exists (select from pg_roles where rolname = :'reader') \gexec

-- To give an object to a role, one must be a member of it, or a superuser. Since PostgreSQL 16, the creator of a role is a
-- member that may grant the role but not act as it.
select format('grant %I to current_user', :'owner')
where not (select rolsuper from pg_roles where rolname = current_user) and not pg_has_role(current_user, :'owner', case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end) \gexec

-- (The current owner needs CREATE on the database, the new one does not.)
alter schema datastream owner to :"owner";

-- No other role uses the schema: firing a trigger needs no right on its function.
revoke all on schema datastream from public;
revoke all on all tables in schema datastream from public;

-- For `serve`. The views read the game's tables with the owner's rights.
grant usage on schema datastream to :"reader";
grant select on datastream.outbox, datastream.trimmed, datastream.attached, datastream.attached_games, datastream.finished_rounds, datastream.seed_indexes,
  datastream._sqlx_migrations, datastream.compatible_migrations, datastream.exact_server to :"reader";
-- It names itself there while it answers resumes exactly.
grant update on datastream.exact_server to :"reader";
select format('grant select on datastream.%I to %I', c.relname, :'reader') from pg_class c
where c.relnamespace = 'datastream'::regnamespace and c.relkind = 'v' and c.relname ~ '^attached_\d+_rounds$' \gexec
-- One by one, because default privileges may have been revoked (`alter default privileges revoke execute on functions`).
grant execute on function datastream.reconcile(xid8), datastream.trim(interval, integer),
  datastream.rounds_by_id(integer, bigint[], text[]), datastream.round_by_id(integer, bigint, text), datastream.split_keys(text[]), datastream.rounds_of(bigint, text, timestamptz, bigint, text, timestamptz, bigint),
  datastream.existing_rows(integer, bigint[], text[]),
  -- For `doctor`.
  datastream.unsendable_rows(integer, integer),
  datastream.index_sql(regclass, boolean), datastream.index_definition(jsonb, boolean, integer), datastream.own_indexes(), datastream.relation_named(text), datastream.qualified(regclass),
  datastream.finished_sql(jsonb, integer, text), datastream.settled_name(jsonb, integer), datastream.is_hypertable(regclass), datastream.has_numbers(regclass, jsonb), datastream.column_type(regclass, text),
  datastream.columns_of(regclass), datastream.id_kind(regtype), datastream.option_columns(jsonb),
  datastream.shared_id(text, text, text, text), datastream.shared_id_sql(text, text, text, text), datastream.is_indexed(text, text)
  to :"reader";
select format('grant connect on database %I to %I', current_database(), :'reader')
where not has_database_privilege(:'reader', current_database(), 'connect') \gexec

-- Gives the objects of the schema to the owner, and lets it read the attached tables.
\ir adopt.sql
commit;
