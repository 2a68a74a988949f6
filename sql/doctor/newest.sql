-- The rounds that doctor/rounds.sql checks: those of the newest 1,000 outbox rows. A negative attachment means that the id cannot
-- be sent, so it finds no round for it.
newest as materialized (
  select distinct o.attachment, o.round_id, o.round_key from (
    select b.attachment, b.round_id, b.round_key from datastream.outbox b
    order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc limit 1000) o
)
