-- Records finished rounds of the last ten minutes that have no row in the outbox; how many.
-- $1 text: a transaction that was over by then
select datastream.reconcile($1::text::xid8)
