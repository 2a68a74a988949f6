-- For each of these rounds that the outbox knows: the oldest transaction that was running when the
-- round was (first) recorded. All that a client who saw the round may have missed is of that
-- transaction or a later one; a round from before what has been trimmed is left out, since some of
-- that may be gone.
-- The outbox has no index by round_id, since the game's writes would pay for it; this reads it
-- once for any number of rounds, and is asked only for what memory does not reach.
-- $1 bigint[]: round ids
select o.round_id, min(o.before::text::bigint) as before
from datastream.outbox o
where o.round_id = any ($1::bigint[])
group by o.round_id
having min(o.before::text::bigint) > coalesce((select t.xid::text::bigint from datastream.trimmed t), 0)
