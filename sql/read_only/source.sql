-- What every query of the read-only mode begins with. The words in braces become the operator's own queries; an
-- index on the game's table serves in them as it would in the query itself. They see what is named here: so by names of ours.
with datastream_games as not materialized ({games}), datastream_rounds as not materialized ({rounds}), datastream_finished as not materialized (
  select s.round_id, s.game_id, g.slug::text as game_slug, g.type::text as game_type, s.finished_at, coalesce(s.extras::text, '{}') as extras
  from datastream_rounds s join datastream_games g on g.id = s.game_id
  where s.finished_at is not null and g.slug is not null and g.type is not null
    and s.finished_at >= timestamptz '0001-01-01 00:00:00+00 BC' and s.finished_at < timestamptz '10000-01-01 00:00:00+00'
)
