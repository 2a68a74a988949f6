-- Outbox rows that have no round to send: its id or its finished_at cannot be sent, it was deleted, it is unfinished again, or
-- it has no game.
-- $1 text: a snapshot; only rows that were committed by then   $2 bigint: how many of the newest outbox rows to read
-- Columns: attachment integer (negative: the id cannot be sent), round_id bigint, round_key text, is_finished boolean (null: deleted),
--          is_out_of_range boolean.
-- Reads no content. An optimization fence: see replay.sql.
with newest as materialized (
  select b.attachment, b.round_id, b.round_key
  from datastream.outbox b
  where b.xid < pg_snapshot_xmax($1::text::pg_snapshot) and pg_visible_in_snapshot(b.xid, $1::text::pg_snapshot)
  order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc
  limit $2::bigint
), absent as materialized (
  select distinct n.attachment, n.round_id, n.round_key, r.attachment is not null as is_out_of_range
  from newest n
  left join lateral (select r.attachment, r.finished_at from datastream.rounds_by_id(n.attachment, array[n.round_id], array[n.round_key]) r offset 0) r on true
  where r.attachment is null or r.finished_at is null
    or r.finished_at < timestamptz '0001-01-01 00:00:00+00' or r.finished_at >= timestamptz '10000-01-01 00:00:00+00'
), existing as (
  select e.attachment, coalesce(e.round_id, 0) as round_id, coalesce(e.round_key, '') as round_key, e.is_finished
  from (select a.attachment, array_agg(a.round_id) as ids, array_agg(a.round_key) as keys from absent a where a.attachment > 0 and not a.is_out_of_range group by a.attachment) a
  cross join lateral datastream.existing_rows(a.attachment, a.ids, a.keys) e
)
select a.attachment, a.round_id, a.round_key, e.is_finished, a.is_out_of_range
from absent a
left join existing e on e.attachment = a.attachment and e.round_id = a.round_id and e.round_key = a.round_key
