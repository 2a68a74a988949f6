-- For each of these rounds that the outbox knows: the oldest transaction that was running when the
-- round was (first) recorded. All that a client who saw the round may have missed is of that
-- transaction or a later one; whether all of that is still there tells replay.sql.
-- The outbox has no index by round_id, since the game's writes would pay for it; this reads it
-- once for any number of rounds, and is asked only for what memory does not reach. Joined, since
-- `= any` compares each row with each of them (a million rows and 1,000 rounds: 6.3 s against 0.2 s).
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings
-- Columns: round_id bigint, null for a string; round_key text, null for a number; before bigint.
select case when o.round_key = '' then o.round_id end as round_id, nullif(o.round_key, '') as round_key, min(o.before::text::bigint) as before
from (select id as round_id, '' as round_key from unnest($1::bigint[]) id union all select 0, key from unnest($2::text[]) key) named
join datastream.outbox o on o.round_id = named.round_id and o.round_key = named.round_key
where o.attachment > 0 and o.xid < pg_snapshot_xmax(pg_current_snapshot())
group by o.round_id, o.round_key
