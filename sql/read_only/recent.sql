-- The newest rounds of each game, oldest first.
-- $1 bigint: how many of each game
select f.*
from datastream_games g
cross join lateral (
  select 0 as attachment, {round:id} as round_id, {round:key} as round_key, {game:id} as game_id, {game:key} as game_key, f.game_slug, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, f.extras
  from datastream_finished f
  where f.game_id = g.id
  order by f.finished_at desc, {round:order} desc
  limit $1::bigint
) f
order by f.finished_micros, f.round_key collate "C", f.round_id
