-- Those of these rounds that the outbox had recorded by a moment, whatever has become of them since;
-- looks at the newest million rows (0.2 s), and only after a failover that seems to have lost rounds.
-- $1 bigint[]: round ids   $2 bigint: microseconds since the epoch
-- Columns: round_id bigint.
select distinct n.round_id
from (select o.round_id, o.at from datastream.outbox o order by o.xid desc, o.round_id desc limit 1000000) n
where n.round_id = any ($1::bigint[]) and n.at <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
