-- Rounds recorded by a transaction or a later one, the newest $3 of them, oldest first.
-- $1 bigint: the first transaction   $2 bigint[]: game ids, or null for all   $3 bigint: limit
-- $4 text: a snapshot; only what was committed by then, since only that has its place in the stream
-- Columns: xid bigint, before bigint, and those of rounds_by_id.sql; ordered by xid, round_id.
select n.xid::text::bigint as xid, n.before::text::bigint as before,
       n.round_id::bigint as round_id, n.game_id::bigint as game_id, n.game_slug, n.game_type,
       datastream.micros(n.finished_at) as finished_micros, n.extras
from (
    select o.xid, o.before, f.*
    from datastream.outbox o
    cross join lateral datastream.rounds_by_id(array[o.round_id]) f
    where o.xid >= $1::bigint::text::xid8 and o.xid < pg_snapshot_xmax($4::text::pg_snapshot)
      and pg_visible_in_snapshot(o.xid, $4::text::pg_snapshot)
      and ($2::bigint[] is null or f.game_id = any ($2::bigint[]))
    order by o.xid desc, o.round_id desc
    limit $3::bigint
) n
order by n.xid, n.round_id
