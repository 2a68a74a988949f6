-- The latest finished round of every game: the seed of each new connection.
-- No parameters.
-- Columns: game_id bigint, game_key text, attachment integer, round_id bigint, round_key text. Without content: if one
-- cannot be read, the query would fail for every game.
-- With LATERAL, PostgreSQL descends the seed index once for each game (0.02 ms for four games of 5 million rounds). A plain
-- join read all rounds: 375 ms. The latest round is that with the greatest (finished_at, round_id), because ids are assigned
-- when a round begins. RFC 3339 cannot print infinity and years after 9999, and such rounds are not streamed. The index can
-- skip them by bounds, but not by `isfinite`.
-- `datastream.attach` generates `rounds_of`, with the columns of each attached table.
select g.game_id, g.game_key, f.attachment, f.round_id, f.round_key
from datastream.attached_games g
cross join lateral datastream.rounds_of(g.game_id, g.game_key, timestamptz '10000-01-01 00:00:00+00', null, null, timestamptz '0001-01-01 00:00:00+00', 1) f
order by g.game_id, g.game_key collate "C"
