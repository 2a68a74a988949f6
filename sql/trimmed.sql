-- The greatest transaction whose rounds retention has trimmed, 0 if none: resume points that reach
-- back to it cannot be honored. Where a logical restore has brought rows of transactions that have yet
-- to begin here, nothing recorded so far is sure to be followed by all that came after it;
-- `datastream.trim` deletes them.
with now as (select pg_snapshot_xmax(pg_current_snapshot()) as xmax)
select case when t.xid >= now.xmax or (select o.xid from datastream.outbox o order by o.xid desc limit 1) >= now.xmax
            then now.xmax::text::bigint - 1 else coalesce(t.xid::text::bigint, 0) end as xid
from now left join datastream.trimmed t on true
