-- The rounds that this transaction or a later one recorded: the newest $4 of them, oldest first. Also the greatest transaction
-- that retention has deleted: it may have deleted rows since resume_points.sql found the first transaction.
-- $1 bigint: the first transaction   $2 bigint[]: ids of games that are numbers, or null for all games
-- $3 text[]: ids of games that are strings   $4 bigint: limit
-- $5 text: a snapshot. Later rounds have no position in the stream yet
-- Columns: trimmed bigint (rounds of that transaction or an older one may be missing: see trimmed.sql), xid bigint, before
--          bigint, attachment integer, round_id bigint, round_key text, game_id bigint, game_key text, game_type text,
--          finished_micros bigint, extras_bytes bigint; ordered by xid, attachment, then by id. One row with a null attachment if
--          there is none. The content is read later, in pages (rounds_by_id.sql).
with now as (
  select pg_snapshot_xmax(pg_current_snapshot()) as xmax
), trimmed as (
  select case when t.xid >= now.xmax or (select o.xid from datastream.outbox o order by o.xid desc limit 1) >= now.xmax
              then now.xmax::text::bigint - 1 else coalesce(t.xid::text::bigint, 0) end as xid
  from now left join datastream.trimmed t on true
)
select t.xid as trimmed, n.xid::text::bigint as xid, n.before::text::bigint as before,
       n.attachment, n.round_id, n.round_key, n.game_id, n.game_key, n.game_type,
       datastream.micros(n.finished_at) as finished_micros, n.extras_bytes
from trimmed t
left join (
    select o.xid, o.before, f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_type, f.finished_at,
           octet_length(f.extras)::bigint as extras_bytes
    from datastream.outbox o
    -- Fenced: of tables that were never analyzed PostgreSQL expects a few rows, and would go through all rounds of a game for
    -- each row (12,000 rounds: over 20 s against 0.1 s).
    cross join lateral (select r.* from datastream.round_by_id(o.attachment, o.round_id, o.round_key) r
      -- Inside, so that the extras of other games are not read.
      where $2::bigint[] is null or r.game_id = any ($2::bigint[]) or r.game_key = any ($3::text[]) offset 0) f
    where o.xid >= $1::bigint::text::xid8 and o.xid < pg_snapshot_xmax($5::text::pg_snapshot)
      and pg_visible_in_snapshot(o.xid, $5::text::pg_snapshot)
    order by o.xid desc, o.attachment desc, o.round_id desc, o.round_key desc
    limit $4::bigint
) n on true
order by n.xid, n.attachment, n.round_id, n.round_key collate "C"
