-- The greatest transaction whose rows retention has deleted, or 0: a resume that needs rows of this transaction is a gap.
-- After a logical restore, the outbox may have rows with transaction ids that this cluster has not reached. Until
-- `datastream.trim` has deleted these, every resume from an earlier round is a gap, because rows after it may be missing.
with now as (select pg_snapshot_xmax(pg_current_snapshot()) as xmax)
select case when t.xid >= now.xmax or (select o.xid from datastream.outbox o order by o.xid desc limit 1) >= now.xmax
            then now.xmax::text::bigint - 1 else coalesce(t.xid::text::bigint, 0) end as xid
from now left join datastream.trimmed t on true
