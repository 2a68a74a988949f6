-- Whether finished_at has a time zone. (Of a domain coalesce gives what it is over.)
-- Columns: zoned boolean.
select pg_typeof(coalesce(r.finished_at, null)) = 'timestamptz'::regtype as zoned
from (select) always
left join datastream_rounds r on false
