-- The newest rounds of each game in the outbox: fills the memory for resumes at the start.
-- $1 text: a snapshot; only what was committed by then, the rest comes with the poll from there.
-- $2 bigint: how many of each game.
-- Columns: xid bigint, before bigint, and those of rounds_by_id.sql; ordered by xid, round_id.
-- The ids are chosen first and the details read for the chosen ones only.
select o.xid::text::bigint as xid, o.before::text::bigint as before,
       f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from (
  select b.xid, b.before, b.round_id,
         row_number() over (partition by r.game_id order by b.xid desc, b.round_id desc) as place
  from datastream.outbox b
  join datastream.finished_rounds r on r.round_id = b.round_id
  where pg_visible_in_snapshot(b.xid, $1::text::pg_snapshot)
) o
join datastream.finished_rounds f on f.round_id = o.round_id
where o.place <= $2::bigint
order by o.xid, o.round_id
