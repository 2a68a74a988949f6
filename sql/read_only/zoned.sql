-- Whether finished_at has a time zone. (`coalesce` turns a domain into its base type.)
-- Columns: zoned boolean; round_type text, game_type text, of the ids; encoding text, of the database.
select pg_typeof(coalesce(r.finished_at, null)) = 'timestamptz'::regtype as zoned,
       pg_typeof(coalesce(r.round_id, null))::text as round_type, pg_typeof(coalesce(r.game_id, null))::text as game_type, getdatabaseencoding()::text as encoding
from (select) always
left join datastream_rounds r on false
