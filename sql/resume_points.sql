-- For each of these rounds that the outbox knows: the oldest transaction that was running when the
-- round was (first) recorded. All that a client who saw the round may have missed is of that
-- transaction or a later one; whether all of that is still there tells replay.sql.
-- The outbox has no index by round_id, since the game's writes would pay for it; this reads it
-- once for any number of rounds, and is asked only for what memory does not reach. Joined, since
-- `= any ($1)` compares each row with each of them (a million rows and 1,000 rounds: 6.3 s against 0.2 s).
-- $1 bigint[]: round ids
select o.round_id, min(o.before::text::bigint) as before
from unnest($1::bigint[]) named(round_id) join datastream.outbox o on o.round_id = named.round_id
where o.xid < pg_snapshot_xmax(pg_current_snapshot())
group by o.round_id
