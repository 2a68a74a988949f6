-- The ids of all games, in the order of games.sql. It reads no slug, name or type: one that cannot be read hides no game.
-- No parameters.
-- Columns: game_id bigint, game_key text.
select g.game_id, g.game_key
from datastream.attached_games g
order by g.game_id nulls last, g.game_key collate "C"
