-- Whether the outbox has this row.
-- $1 bigint: xid   $2 integer: attachment   $3 bigint: round_id   $4 text: round_key   $5 bigint: when it was written, in microseconds since the epoch
select exists (select from datastream.outbox o
  where o.xid = $1::bigint::text::xid8 and o.attachment = $2::integer and o.round_id = $3::bigint and o.round_key = $4::text
    and (extract(epoch from o.at) * 1000000)::bigint = $5::bigint) as recorded
