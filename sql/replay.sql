-- Rounds recorded by a transaction or a later one, the newest $3 of them, oldest first, and what has been trimmed by
-- this look, which may have been more when the first transaction was looked up (resume_points.sql).
-- $1 bigint: the first transaction   $2 bigint[]: game ids, or null for all   $3 bigint: limit
-- $4 text: a snapshot; only what was committed by then, since only that has its place in the stream
-- Columns: trimmed bigint (rounds of that transaction or an older one may be missing: see trimmed.sql), xid bigint, before
--          bigint, and those of rounds_by_id.sql; ordered by xid, round_id. One row with a null round_id where there is none.
with now as (
  select pg_snapshot_xmax(pg_current_snapshot()) as xmax
), trimmed as (
  select case when t.xid >= now.xmax or (select o.xid from datastream.outbox o order by o.xid desc limit 1) >= now.xmax
              then now.xmax::text::bigint - 1 else coalesce(t.xid::text::bigint, 0) end as xid
  from now left join datastream.trimmed t on true
)
select t.xid as trimmed, n.xid::text::bigint as xid, n.before::text::bigint as before,
       n.round_id::bigint as round_id, n.game_id::bigint as game_id, n.game_slug, n.game_type,
       datastream.micros(n.finished_at) as finished_micros, n.extras
from trimmed t
left join (
    select o.xid, o.before, f.*
    from datastream.outbox o
    -- Fenced: of tables that were never analyzed PostgreSQL expects a few rows, and would go through all rounds of a game for
    -- each row (12,000 rounds: over 20 s against 0.1 s).
    cross join lateral (select r.* from datastream.rounds_by_id(array[o.round_id]) r offset 0) f
    where o.xid >= $1::bigint::text::xid8 and o.xid < pg_snapshot_xmax($4::text::pg_snapshot)
      and pg_visible_in_snapshot(o.xid, $4::text::pg_snapshot)
      and ($2::bigint[] is null or f.game_id = any ($2::bigint[]))
    order by o.xid desc, o.round_id desc
    limit $3::bigint
) n on true
order by n.xid, n.round_id
