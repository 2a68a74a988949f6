-- The ids of the newest rounds of each game, newest first.
-- $1 bigint: how many of each game   $2 bigint: how many of all, besides the newest ten of each game
-- Columns: game bigint (a number for each game), attachment, round_id, round_key, finished_micros, and cut_micros bigint: the
--          latest finished_at of the rounds that $2 leaves out, or null.
select n.game, n.attachment, n.round_id, n.round_key, n.finished_micros, n.cut_micros
from (
  select p.*, max(case when p.nth > $2::bigint and p.place > 10 then p.finished_micros end) over () as cut_micros
  from (
    select k.*, g.game, row_number() over (order by k.finished_micros desc, coalesce(k.round_key, '') collate "C" desc, k.round_id desc) as nth
    from (select row_number() over () as game, g.id from datastream_games g) g
    cross join lateral (
      select 0 as attachment, {round:id} as round_id, {round:key} as round_key, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros,
             row_number() over (order by f.finished_at desc, {round:order} desc) as place
      from datastream_finished f
      where f.game_id = g.id
      order by f.finished_at desc, {round:order} desc
      limit $1::bigint
    ) k
  ) p
) n
where n.nth <= $2::bigint or n.place <= 10
order by n.nth
