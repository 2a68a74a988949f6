-- The rounds that doctor/rounds.sql looks at: those of the newest 1,000 rows of the outbox. A negative attachment: the id cannot be sent, so no round is found.
newest as materialized (
  select distinct o.attachment, o.round_id, o.round_key from (
    select b.attachment, b.round_id, b.round_key from datastream.outbox b
    order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc limit 1000) o
)
