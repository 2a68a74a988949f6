-- The newest rounds of each game in the outbox: fills the memory for resumes at the start.
-- $1 text: a snapshot; only what was committed by then, the rest comes with the poll from there.
-- $2 bigint: how many of each game.
-- $3 bigint: how many rows of the outbox to look at, the newest: bounds the start, however long the
--            retention.
-- Columns: floor bigint (where the look ended: rounds of this transaction or an older one may be
--          missing; null when the whole outbox was seen), xid bigint, before bigint, and those of
--          rounds_by_id.sql; ordered by xid, attachment, then by id.
-- `< xmax` says no more than the snapshot does, but to the index: no step through what another cluster's
-- transactions have left (see poll.sql). The ids are chosen first and the details read for the chosen ones only: 0.05 s for 10,000 rows,
-- 0.5 s for 100,000.
with newest as materialized (
  select b.xid, b.before, b.attachment, b.round_id, b.round_key
  from datastream.outbox b
  where b.xid < pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(b.xid, $1::text::pg_snapshot)
  order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc
  limit $3::bigint
), placed as (
  select n.*,
         row_number() over (partition by r.game_id, r.game_key order by n.xid desc, n.attachment desc, n.round_id desc, n.round_key desc) as place
  from newest n
  cross join lateral datastream.rounds_by_id(n.attachment, array[n.round_id], array[n.round_key]) r
)
select (select n.xid::text::bigint from newest n where (select count(*) from newest) = $3::bigint
        order by n.xid limit 1) as floor,
       o.xid::text::bigint as xid, o.before::text::bigint as before,
       f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from placed o
cross join lateral datastream.rounds_by_id(o.attachment, array[o.round_id], array[o.round_key]) f
where o.place <= $2::bigint
order by o.xid, o.attachment, o.round_id, o.round_key
