-- The latest finished round of every game: the seed of each new connection.
-- No parameters.
-- Columns: as rounds_by_id.sql.
-- LATERAL, so that each game is one step down the seed index (0.02 ms for four games of 5 million
-- rounds; a plain join read all of them: 375 ms). Latest is by (finished_at, round_id): ids are given
-- when a round begins. Moments that RFC 3339 cannot print (infinity, beyond the year 9999) are not
-- streamed; bounds, rather than `isfinite`, let the index skip them.
-- `rounds_of` is made by `datastream.attach`, for each attached table with its own columns.
select f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros,
       case when octet_length(f.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
            then f.extras end as extras
from datastream.attached_games g
cross join lateral datastream.rounds_of(g.game_id, g.game_key, timestamptz '10000-01-01 00:00:00+00', null, null, timestamptz '0001-01-01 00:00:00+00', 1) f
order by f.game_id, f.game_key collate "C"
