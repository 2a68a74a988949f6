-- A page of a game's finished rounds, newest first.
-- $1 bigint: the game; $2 bigint: a round id, exclusive, or null for the first page; $3 bigint: how many.
-- Columns: as rounds_by_id.sql; ordered by finished_at desc, round_id desc, the order of the seed index.
select f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from datastream.finished_rounds f
where f.game_id = $1::bigint
  and f.finished_at >= timestamptz '0001-01-01 00:00:00+00 BC'
  and f.finished_at < timestamptz '10000-01-01 00:00:00+00'
  and ($2::bigint is null or (f.finished_at, f.round_id) <
       (select b.finished_at, b.round_id from datastream.finished_rounds b where b.round_id = $2::bigint))
order by f.finished_at desc, f.round_id desc
limit $3::bigint
