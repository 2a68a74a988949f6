-- As list_keys.sql.
select 0 as attachment, k.round_id, null::text as round_key, k.finished_micros
from datastream_games g
cross join lateral (
  select f.round_id::bigint as round_id, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros
  from datastream_finished f
  where f.game_id = g.id
    and f.finished_at <= coalesce(timestamptz 'epoch' + least($3::bigint, 253402300800000000) * interval '1 microsecond', timestamptz '10000-01-01 00:00:00+00')
    and ($3::bigint is null or $5::text is not null or f.round_id < $4::bigint
      or f.finished_at < timestamptz 'epoch' + least($3::bigint, 253402300800000000) * interval '1 microsecond')
  order by f.finished_at desc, f.round_id desc
  limit $6::bigint
) k
where g.id = any ($1::bigint[]) and $2::text[] is not null
order by k.finished_micros desc, k.round_id desc
limit $6::bigint
