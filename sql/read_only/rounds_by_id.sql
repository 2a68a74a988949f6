-- As rounds_by_id.sql.
-- $1 integer[]: not used   $2 bigint[]: round ids   $3 text[]: not used
select 0 as attachment, f.round_id::bigint as round_id, null::text as round_key, f.game_id::bigint as game_id, null::text as game_key, f.game_slug, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, f.extras
from datastream_finished f
where f.round_id = any ($2::bigint[]) and $1::integer[] is not null and $3::text[] is not null
