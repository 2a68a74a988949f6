-- As existing_rows.sql.
-- $1 integer[]: not used   $2 bigint[]: ids that are numbers   $3 text[]: ids that are strings
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, f.finished_at is not null as is_finished
from datastream_rounds f
where {round:in $2 $3} and $1::integer[] is not null
