-- Attaching with psql alone, for who may not bring a program to the database. From the project's root:
--
--   psql "$DATABASE_URL" -v table=game.results -v id=result_id -v finished_at=ended_at -v extras=payload \
--        -v game_id=title_id -v games=game.titles -v games_slug=code -v games_name=title -v games_type=kind \
--        -f sql/attach.sql
--
-- The variables are the options of `datastream attach`: table, id, finished_at, time_zone, extras,
-- extras_columns (a,b,c), game_id, game_id_value, games, games_id, games_slug, games_name, games_type, slug_column,
-- type_column, slug, type, capture, replace, dry_run, index (the last three: true). What is not given has its default.
-- dry_run prints what it would run, to be run by psql from the project's root; of the index it tells nothing.
-- Makes the schema first where it is missing, by the migrations, and records them as `datastream migrate --no-tables` does.
-- Gives up after 2 s behind somebody else's lock, as the program does, but tries only once and does not say who: run it again.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?table} \else \warn 'name the table: -v table=game.results'
\quit
\endif
set lock_timeout = '2s';

begin;
-- (`datastream migrate --revert` leaves the table of migrations.)
select to_regprocedure('datastream.index_sql(regclass, boolean)') is null as missing \gset
\if :missing
  \ir make_schema.sql
\endif

-- What was not given is null, which is the default.
\if :{?id} \else \set id ''
\endif
\if :{?finished_at} \else \set finished_at ''
\endif
\if :{?time_zone} \else \set time_zone ''
\endif
\if :{?extras} \else \set extras ''
\endif
\if :{?extras_columns} \else \set extras_columns ''
\endif
\if :{?game_id} \else \set game_id ''
\endif
\if :{?game_id_value} \else \set game_id_value ''
\endif
\if :{?games} \else \set games ''
\endif
\if :{?games_id} \else \set games_id ''
\endif
\if :{?games_slug} \else \set games_slug ''
\endif
\if :{?games_name} \else \set games_name ''
\endif
\if :{?games_type} \else \set games_type ''
\endif
\if :{?slug_column} \else \set slug_column ''
\endif
\if :{?type_column} \else \set type_column ''
\endif
\if :{?slug} \else \set slug ''
\endif
\if :{?type} \else \set type ''
\endif
\if :{?capture} \else \set capture ''
\endif
\if :{?replace} \else \set replace false
\endif
\if :{?dry_run} \else \set dry_run false
\endif
\if :{?index} \else \set index false
\endif

\pset format unaligned
\pset tuples_only on
\if :dry_run
  \echo 'begin;'
  \echo 'set local lock_timeout = ''2s'';'
  \if :missing
    \echo '\\i sql/make_schema.sql'
  \endif
\endif
select statement || ';' from datastream.attach(:'table'::regclass,
  id => nullif(:'id', ''), finished_at => nullif(:'finished_at', ''), extras => nullif(:'extras', ''),
  extras_columns => string_to_array(nullif(:'extras_columns', ''), ','),
  game_id => nullif(:'game_id', ''), game_id_value => nullif(:'game_id_value', '')::bigint,
  games => nullif(:'games', '')::regclass, games_id => nullif(:'games_id', ''), games_slug => nullif(:'games_slug', ''),
  games_name => nullif(:'games_name', ''), games_type => nullif(:'games_type', ''),
  slug_column => nullif(:'slug_column', ''), type_column => nullif(:'type_column', ''),
  slug => nullif(:'slug', ''), type => nullif(:'type', ''), time_zone => nullif(:'time_zone', ''),
  capture => nullif(:'capture', ''),
  replace => :'replace', dry_run => :'dry_run') as statement;
\if :dry_run
  \echo '\\i sql/adopt.sql'
  \echo 'commit;'
  rollback;
  \quit
\endif
\ir adopt.sql
commit;

-- Built CONCURRENTLY, while the game goes on: may wait for old transactions, and nobody waits for it. The statements that go
-- with it for a partitioned table wait for a lock on it, and the game's writers behind them, so not for long.
\if :index
  select unnest(array[format('set lock_timeout = %L', case when statement like '% concurrently %' then '0' else '2s' end), statement])
  from datastream.index_sql(:'table'::regclass) as statement \gexec
\endif
