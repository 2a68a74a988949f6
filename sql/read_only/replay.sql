-- As replay.sql, with the microsecond of the finish instead of the transaction.
-- $1 bigint: the first microsecond   $2 bigint[]: ids of games that are numbers, or null for all games
-- $3 text[]: ids of games that are strings   $4 bigint: limit   $5 bigint: the overlap
, newest as (
  select 0 as attachment, {round:id} as round_id, {round:key} as round_key, {game:id} as game_id, {game:key} as game_key, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, octet_length(f.extras)::bigint as extras_bytes
  from datastream_finished f
  where f.finished_at >= timestamptz 'epoch' + least($1::bigint, 253402300800000000) * interval '1 microsecond'
    and ($2::bigint[] is null or {game:in $2 $3})
  order by f.finished_at desc, {round:order} desc
  limit $4::bigint
)
select 0::bigint as trimmed, greatest(n.finished_micros, 1) as xid, greatest(n.finished_micros - $5::bigint, 1) as before, n.*
from newest n
order by n.finished_micros, n.round_key collate "C", n.round_id
