-- Whether a row of the outbox is there.
-- $1 bigint: xid   $2 bigint: round id   $3 bigint: when it was written, in microseconds since the epoch
select exists (select from datastream.outbox o
  where o.xid = $1::bigint::text::xid8 and o.round_id = $2::bigint and (extract(epoch from o.at) * 1000000)::bigint = $3::bigint) as recorded
