-- As rounds_by_id.sql.
-- $1 integer[]: not used   $2 bigint[]: ids that are numbers   $3 text[]: ids that are strings
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, {game:id} as game_id, {game:key} as game_key, f.game_slug, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros,
       case when octet_length(f.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
            then f.extras end as extras
from datastream_finished f
where {round:in $2 $3} and $1::integer[] is not null
