-- The roles with the least rights that Data Stream works with. For psql, by a superuser or by who owns the
-- schema datastream and the game's tables, after `datastream migrate` and `attach`; can be run again.
--
--   psql "$DATABASE_URL" -f sql/roles.sql
--   psql "$DATABASE_URL" -v owner=ds_owner -v reader=ds_reader -f sql/roles.sql     other names
--
-- owner   cannot log in; owns what is in the schema, so that the triggers and views run with its rights and
--         no others: to add to the outbox, and to read the attached tables
-- reader  the role of `datastream serve` (and `doctor`): give it a password by \password datastream_reader
-- The game's roles get nothing: they need nothing.
--
-- Roles belong to the whole server. To take them away: in each database `drop schema datastream cascade`,
-- `drop owned by datastream_owner` (the grants on the game's tables) and `revoke connect on database NAME from datastream_reader` (where
-- PUBLIC may not connect), then `drop role datastream_owner, datastream_reader`.
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
-- It has at once what it is granted (pg_read_all_stats, for `doctor`).
select format('create role %I login nosuperuser nocreatedb nocreaterole inherit', :'reader')
where not exists (select from pg_roles where rolname = :'reader') \gexec

-- To hand something over one must be a member of who gets it; a superuser need not. From PostgreSQL 16 on who makes
-- a role is a member that may but pass it on, not be it.
select format('grant %I to current_user', :'owner')
where not (select rolsuper from pg_roles where rolname = current_user) and not pg_has_role(current_user, :'owner', case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end) \gexec

-- (Who gives it away must be allowed to create in the database, not who gets it.)
alter schema datastream owner to :"owner";

-- Nobody else makes anything of it; the two functions that work on the game's behalf are for everybody.
revoke all on schema datastream from public;
revoke all on all tables in schema datastream from public;

-- What `serve` reads. The views read the game's tables with the owner's rights.
grant usage on schema datastream to :"reader";
grant select on datastream.outbox, datastream.trimmed, datastream.attached, datastream.games, datastream.finished_rounds,
  datastream._sqlx_migrations, datastream.compatible_migrations to :"reader";
select format('grant select on datastream.%I to %I', c.relname, :'reader') from pg_class c
where c.relnamespace = 'datastream'::regnamespace and c.relkind = 'v' and c.relname ~ '^rounds_\d+$' \gexec
-- Said one by one because a database may be hardened by `alter default privileges revoke execute on functions from public`.
grant execute on function datastream.reconcile(xid8), datastream.trim(interval, integer),
  datastream.rounds_by_id(bigint[]), datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint),
  -- For `doctor`.
  datastream.index_sql(regclass, boolean), datastream.own_indexes(), datastream.qualified(regclass),
  datastream.shared_id(text, text, text, text), datastream.shared_id_sql(text, text, text, text), datastream.is_indexed(text, text)
  to :"reader";
select format('grant connect on database %I to %I', current_database(), :'reader')
where not has_database_privilege(:'reader', current_database(), 'connect') \gexec

-- Hands over what is in the schema, and lets the owner read what is attached.
\ir adopt.sql
commit;
