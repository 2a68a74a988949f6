-- Whether finished_at has a time zone. (`coalesce` turns a domain into its base type.)
-- Columns: zoned boolean.
select pg_typeof(coalesce(r.finished_at, null)) = 'timestamptz'::regtype as zoned
from (select) always
left join datastream_rounds r on false
