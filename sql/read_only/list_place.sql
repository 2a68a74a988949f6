-- As list_place.sql.
select 0 as attachment, f.round_id::bigint as round_id, null::text as round_key, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros
from datastream_finished f
where f.round_id = $1::bigint and $2::text is not null
