-- The latest finished round of every game: the seed of each new connection.
-- No parameters.
-- Columns: game_id bigint, game_key text, attachment integer, round_id bigint, round_key text. Without content: one that
-- cannot be read would make the query fail for every game.
-- LATERAL, so that each game is one step down the seed index (0.02 ms for four games of 5 million
-- rounds; a plain join read all of them: 375 ms). Latest is by (finished_at, round_id): ids are given
-- when a round begins. Moments that RFC 3339 cannot print (infinity, beyond the year 9999) are not
-- streamed; bounds, rather than `isfinite`, let the index skip them.
-- `rounds_of` is made by `datastream.attach`, for each attached table with its own columns.
select g.game_id, g.game_key, f.attachment, f.round_id, f.round_key
from datastream.attached_games g
cross join lateral datastream.rounds_of(g.game_id, g.game_key, timestamptz '10000-01-01 00:00:00+00', null, null, timestamptz '0001-01-01 00:00:00+00', 1) f
order by g.game_id, g.game_key collate "C"
