-- As list_place.sql.
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros
from datastream_finished f
where {round:in array[$1::bigint] array[$2::text]}
