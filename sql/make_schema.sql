-- Our schema, for psql, from the project's root, in a transaction: by the migrations, and recorded as `datastream migrate
-- --no-tables` records it. Part of attach.sql.
\set ON_ERROR_STOP on
set local datastream.tables = off;  -- this game has its own
create schema if not exists datastream;
create table if not exists datastream._sqlx_migrations (version bigint primary key, description text not null,
  installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null, execution_time bigint not null);
\ir ../migrations/20260117000100_create_games_and_rounds.up.sql
\set content `cat migrations/20260117000100_create_games_and_rounds.up.sql`
select :'content' = '' as elsewhere \gset
\if :elsewhere
  do $$ begin raise exception 'run psql from the project''s root, so that the files of the migrations are found'; end $$;
\endif
insert into datastream._sqlx_migrations values (20260117000100, 'create games and rounds', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000200_create_outbox.up.sql
\set content `cat migrations/20260117000200_create_outbox.up.sql`
insert into datastream._sqlx_migrations values (20260117000200, 'create outbox', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000300_create_views.up.sql
\set content `cat migrations/20260117000300_create_views.up.sql`
insert into datastream._sqlx_migrations values (20260117000300, 'create views', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000400_create_triggers.up.sql
\set content `cat migrations/20260117000400_create_triggers.up.sql`
insert into datastream._sqlx_migrations values (20260117000400, 'create triggers', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000500_create_attach.up.sql
\set content `cat migrations/20260117000500_create_attach.up.sql`
insert into datastream._sqlx_migrations values (20260117000500, 'create attach', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000600_create_reconcile_and_trim.up.sql
\set content `cat migrations/20260117000600_create_reconcile_and_trim.up.sql`
insert into datastream._sqlx_migrations values (20260117000600, 'create reconcile and trim', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
\ir ../migrations/20260117000700_attach_rounds.up.sql
\set content `cat migrations/20260117000700_attach_rounds.up.sql`
insert into datastream._sqlx_migrations values (20260117000700, 'attach rounds', now(), true, sha384(convert_to(:'content' || E'\n', 'UTF8')), 0);
