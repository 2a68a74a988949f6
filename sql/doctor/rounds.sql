-- Rounds that cannot be sent, among the newest 1,000 rows of the outbox: their finished_at has no RFC 3339 text, or their extras
-- are longer than the setting datastream.max_round (1 MiB by default). A round that PostgreSQL cannot read makes the check fail.
, newest as materialized (
  select b.attachment, b.round_id, b.round_key from datastream.outbox b
  order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc limit 1000
), checked as materialized (
  select distinct n.attachment, n.round_id, n.round_key,
         case when f.finished_at < timestamptz '0001-01-01 00:00:00+00' or f.finished_at >= timestamptz '10000-01-01 00:00:00+00'
                then 'finished_at is out of range'
              when octet_length(f.extras) > coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
                then 'longer than DATASTREAM_MAX_ROUND' end as reason
  from newest n
  cross join lateral datastream.round_by_id(n.attachment, n.round_id, n.round_key) f
)
select 'warning' as status,
       format('%s finished rounds cannot be sent (%s), such as %s of %s', count(*), f.reason,
              min(coalesce(nullif(f.round_key, ''), f.round_id::text)), min(a.relation::text)) as says,
       'correct these rounds, or set DATASTREAM_MAX_ROUND; serve skips them' as remedy
from checked f join datastream.attached a on a.id = f.attachment
where f.reason is not null
group by f.reason
