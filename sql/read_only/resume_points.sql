-- As resume_points.sql, with the microsecond of the finish minus the overlap instead of the transaction.
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings   $3 bigint: the overlap in microseconds
select {round:id} as round_id, {round:key} as round_key, greatest((extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) - $3::bigint, 1) as before
from datastream_finished f
where {round:in $1 $2}
