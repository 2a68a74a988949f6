-- As extras_bytes.sql.
-- $1 integer[]: not used   $2 bigint[]: ids that are numbers   $3 text[]: ids that are strings
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, f.game_type, octet_length(f.extras)::bigint as extras_bytes
from datastream_finished f
where {round:in $2 $3} and $1::integer[] is not null
