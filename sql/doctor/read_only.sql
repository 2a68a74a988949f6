-- The operator's two queries have the columns that the read-only mode needs. Reads no row.
select case when pg_typeof(coalesce(r.finished_at, null)) = 'timestamptz'::regtype then 'ok' else 'failed' end as status,
       format('the queries for rounds and games have the required columns; finished_at is %s', pg_typeof(r.finished_at)) as says,
       'add a time zone in DATASTREAM_READ_ONLY_ROUNDS: finished_at at time zone ''UTC'' as finished_at' as remedy
from (select) always
left join datastream_rounds r on false
left join datastream_games g on false
cross join lateral (select r.round_id::text, r.game_id::text, r.extras::text, g.id::text, g.slug::text, g.name::text, g.type::text) reads
