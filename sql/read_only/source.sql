-- The beginning of every query of the read-only mode. The operator's queries replace the words in braces. They are not
-- materialized, so that PostgreSQL uses the indexes of the game's tables. The names have the prefix datastream_, because the
-- operator's queries would read these names instead of tables.
with datastream_games as not materialized ({games}), datastream_rounds as not materialized ({rounds}), datastream_finished as not materialized (
  select s.round_id, s.game_id, {slug} as game_slug, {type} as game_type, s.finished_at, coalesce(case when pg_typeof(s.extras) = 'jsonb'::regtype then s.extras::text else s.extras::text::jsonb::text end, '{}') as extras
  from datastream_rounds s join datastream_games g on g.id = s.game_id
  where s.finished_at is not null
    and s.finished_at >= timestamptz '0001-01-01 00:00:00+00' and s.finished_at < timestamptz '10000-01-01 00:00:00+00'
    and {sendable}
)
