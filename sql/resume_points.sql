-- For each of these rounds that the outbox knows: the oldest transaction that was running when the
-- round was (first) recorded. All that a client who saw the round may have missed is of that
-- transaction or a later one; a round from before what has been trimmed is left out, since some of
-- that may be gone, and so is what another cluster's transactions have left (see trimmed.sql).
-- The outbox has no index by round_id, since the game's writes would pay for it; this reads it
-- once for any number of rounds, and is asked only for what memory does not reach.
-- $1 bigint[]: round ids
with now as (
  select pg_snapshot_xmax(pg_current_snapshot()) as xmax
), trimmed as (
  select case when t.xid >= now.xmax or (select o.xid from datastream.outbox o order by o.xid desc limit 1) >= now.xmax
              then now.xmax::text::bigint - 1 else coalesce(t.xid::text::bigint, 0) end as xid
  from now left join datastream.trimmed t on true
)
select o.round_id, min(o.before::text::bigint) as before
from datastream.outbox o
where o.round_id = any ($1::bigint[]) and o.xid < pg_snapshot_xmax(pg_current_snapshot())
group by o.round_id
having min(o.before::text::bigint) > (select t.xid from trimmed t)
