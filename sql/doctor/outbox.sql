-- `serve` deletes rows that are older than the retention. Much older rows mean that it does not run.
select case when o.oldest > 2 * r.retention + interval '10 minutes' then 'warning' else 'ok' end as status,
       format('the outbox has about %s rows in %s%s', greatest(c.reltuples, 0)::bigint, pg_size_pretty(pg_total_relation_size(c.oid)),
              ', the oldest from ' || to_char(o.oldest, 'FMDDD "days" HH24:MI:SS') || ' ago') as says,
       'run datastream serve with this retention: it trims the outbox each minute' as remedy
from pg_class c
cross join options r
left join lateral (select clock_timestamp() - b.at as oldest from datastream.outbox b order by b.xid, b.attachment, b.round_id, b.round_key limit 1) o on true
where c.oid = 'datastream.outbox'::regclass
