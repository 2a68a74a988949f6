-- The newest rounds of each game in the outbox: fills the memory for resumes at the start.
-- $1 text: a snapshot; only what was committed by then, the rest comes with the poll from there.
-- $2 bigint: how many of each game.
-- $3 bigint: how many rows of the outbox to look at, the newest: bounds the start, however long the
--            retention.
-- Columns: floor bigint (where the look ended: rounds of this transaction or an older one may be
--          missing; null when the whole outbox was seen), xid bigint, before bigint, and those of
--          rounds_by_id.sql; ordered by xid, round_id.
-- `< xmax` says no more than the snapshot does, but to the index: no step through what another cluster's
-- transactions have left (see poll.sql). The ids are chosen first and the details read for the chosen ones only: 0.05 s for 10,000 rows,
-- 0.5 s for 100,000.
with newest as materialized (
  select b.xid, b.before, b.round_id
  from datastream.outbox b
  where b.xid < pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(b.xid, $1::text::pg_snapshot)
  order by b.xid desc, b.round_id desc
  limit $3::bigint
), placed as (
  select n.xid, n.before, n.round_id,
         row_number() over (partition by r.game_id order by n.xid desc, n.round_id desc) as place
  from newest n
  cross join lateral datastream.rounds_by_id(array[n.round_id]) r
)
select (select n.xid::text::bigint from newest n where (select count(*) from newest) = $3::bigint
        order by n.xid limit 1) as floor,
       o.xid::text::bigint as xid, o.before::text::bigint as before,
       f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from placed o
cross join lateral datastream.rounds_by_id(array[o.round_id]) f
where o.place <= $2::bigint
order by o.xid, o.round_id
