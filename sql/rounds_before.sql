-- A page of a game's finished rounds, newest first.
-- $1 bigint: the game; $2 bigint: a round id, exclusive, or null for the first page; $3 bigint: how many.
-- No rows where the round that was named does not exist or is not finished.
-- Columns: as rounds_by_id.sql; ordered by finished_at desc, round_id desc, the order of the seed index.
select f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from (
  select b.finished_at, b.round_id from datastream.rounds_by_id(array[$2::bigint]) b
  union all
  select timestamptz '10000-01-01 00:00:00+00', 0 where $2::bigint is null
) page
cross join lateral datastream.rounds_of($1::bigint, least(page.finished_at, timestamptz '10000-01-01 00:00:00+00'), page.round_id,
  timestamptz '0001-01-01 00:00:00+00', $3::bigint) f
order by f.finished_at desc, f.round_id desc
