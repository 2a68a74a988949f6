-- The newest rounds of each game in the outbox: the server keeps them in memory from its start on.
-- $1 text: a snapshot. Later rounds come with the poll that begins there.
-- $2 bigint: how many of each game.
-- $3 bigint: how many of the newest outbox rows to read. This limits the time of a start, also with a long retention.
-- Columns: floor bigint (rounds of this transaction or an older one may be missing;
--          null if the whole outbox was read), xid bigint, before bigint, attachment integer, round_id bigint,
--          round_key text; newest first. The content is read in pages (rounds_by_id.sql), as far as the memory allows.
-- `< xmax` follows from the snapshot, but it is a condition on the index. So PostgreSQL reads no rows of another cluster's
-- transactions (see poll.sql).
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
  cross join lateral datastream.round_by_id(n.attachment, n.round_id, n.round_key) r
)
select (select n.xid::text::bigint from newest n where (select count(*) from newest) = $3::bigint
        order by n.xid limit 1) as floor,
       o.xid::text::bigint as xid, o.before::text::bigint as before, o.attachment, o.round_id, o.round_key
from placed o
where o.place <= $2::bigint
order by o.xid desc, o.attachment desc, o.round_id desc, o.round_key desc
