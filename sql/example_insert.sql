-- For psql: one finished round of crash. Every subscriber sees it at once.
--   psql "$DATABASE_URL" -f sql/sample_games.sql -f sql/example_insert.sql
insert into public.rounds (game_id, finished_at, extras)
select id, now(), '{"point": "11.72"}'
from public.games
where slug = 'crash'
returning id as round_id;
