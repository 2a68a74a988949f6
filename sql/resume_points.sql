-- For each of these rounds that the outbox has: the oldest transaction that was in progress when the round was first
-- recorded. Every round that a client missed after it is of that transaction or a later one. replay.sql finds out whether
-- retention has deleted some of them.
-- The outbox has no index by round_id, because that would slow down the game's writes. So this reads the whole outbox, once
-- for any number of rounds, and only for rounds that are no longer in memory. It joins the rounds, because `= any` would
-- compare each row with each round (a million rows and 1,000 rounds: 6.3 s instead of 0.2 s).
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings
-- Columns: round_id bigint, null for a string; round_key text, null for a number; before bigint.
select case when o.round_key = '' then o.round_id end as round_id, nullif(o.round_key, '') as round_key, min(o.before::text::bigint) as before
from (select id as round_id, '' as round_key from unnest($1::bigint[]) id union all select 0, key from unnest($2::text[]) key) named
join datastream.outbox o on o.round_id = named.round_id and o.round_key = named.round_key
where o.attachment > 0 and o.xid < pg_snapshot_xmax(pg_current_snapshot())
group by o.round_id, o.round_key
