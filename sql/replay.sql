-- Rounds recorded by a transaction or a later one, the newest $3 of them, oldest first.
-- `until` says how far the query saw; where nothing was recorded it stands in a row without a round.
-- $1 bigint: the first transaction   $2 bigint[]: game ids, or null for all   $3 bigint: limit
with newest as (
    select o.xid, o.before, f.*
    from datastream.outbox o
    cross join lateral datastream.rounds_by_id(array[o.round_id]) f
    where o.xid >= $1::bigint::text::xid8
      and ($2::bigint[] is null or f.game_id = any ($2::bigint[]))
    order by o.xid desc, o.round_id desc
    limit $3::bigint
)
select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as until,
       n.xid::text::bigint as xid, n.before::text::bigint as before,
       n.round_id::bigint as round_id, n.game_id::bigint as game_id, n.game_slug, n.game_type,
       datastream.micros(n.finished_at) as finished_micros, n.extras
from (select) always
left join newest n on true
order by n.xid, n.round_id
