-- Adds the outbox rows that the triggers could not write, for rounds of the last ten minutes.
-- $1 text: a transaction id from before that time
-- Columns: bigint, the rows added; null: another session does it at this time.
select datastream.reconcile($1::text::xid8)
