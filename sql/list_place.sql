-- The finished rounds with this id, which may be a number or a string.
-- $1 bigint: the number, or null   $2 text: the string
-- Columns: as list_keys.sql.
select f.attachment, f.round_id, f.round_key, datastream.micros(f.finished_at) as finished_micros
from datastream.round_by_id(null, $1::bigint, $2::text) f
