-- Those of these rounds whose outbox row is from this time or earlier, whether or not the rounds still exist. Reads the newest
-- million outbox rows (0.2 s). The server runs it only after a failover that seems to have lost rounds.
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings   $3 bigint: microseconds since the epoch
-- Columns: round_id bigint, null for a string; round_key text, null for a number.
select distinct case when n.round_key = '' then n.round_id end as round_id, nullif(n.round_key, '') as round_key
from (select o.attachment, o.round_id, o.round_key, o.at from datastream.outbox o
      order by o.xid desc, o.attachment desc, o.round_id desc, o.round_key desc limit 1000000) n
where n.attachment > 0 and (n.round_key = '' and n.round_id = any ($1::bigint[]) or n.round_key <> '' and n.round_key = any ($2::text[]))
  and n.at <= timestamptz 'epoch' + $3::bigint * interval '1 microsecond'
