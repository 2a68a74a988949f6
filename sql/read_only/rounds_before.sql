-- As rounds_before.sql.
select 0 as attachment, f.round_id::bigint as round_id, null::text as round_key, f.game_id::bigint as game_id, null::text as game_key, f.game_slug, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, f.extras
from datastream_finished f
where f.game_id = $1::bigint and $2::text is null
  and ($3::bigint is null and $4::text is null or (f.finished_at, f.round_id) < (select b.finished_at, b.round_id from datastream_finished b where b.round_id = $3::bigint))
order by f.finished_at desc, f.round_id desc
limit $5::bigint
