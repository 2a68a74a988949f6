-- As list_keys.sql.
select 0 as attachment, k.round_id, k.round_key, k.finished_micros
from datastream_games g
cross join lateral (
  select {round:id} as round_id, {round:key} as round_key, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros
  from datastream_finished f
  where f.game_id = g.id
    and f.finished_at <= coalesce(timestamptz 'epoch' + least($3::bigint, 253402300800000000) * interval '1 microsecond', timestamptz '10000-01-01 00:00:00+00')
    and ($3::bigint is null or f.finished_at < timestamptz 'epoch' + least($3::bigint, 253402300800000000) * interval '1 microsecond' or {round:less $4 $5})
  order by f.finished_at desc, {round:order} desc
  limit $6::bigint
) k
where {g:in $1 $2}
order by k.finished_micros desc, coalesce(k.round_key, '') collate "C" desc, k.round_id desc
limit $6::bigint
