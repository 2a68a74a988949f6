-- The finished rounds with an id that may be a number or a string.
-- $1 bigint: the number, or null   $2 text: the string
-- Columns: as list_keys.sql.
select f.attachment, f.round_id, f.round_key, datastream.micros(f.finished_at) as finished_micros
from datastream.rounds_by_id(null, array[$1::bigint], array[$2::text]) f
