-- The ids of all games, in the order of games.sql. Reads no slug, name or type, so one that cannot be read
-- does not hide the other games.
-- No parameters.
-- Columns: game_id bigint, game_key text.
select g.game_id, g.game_key
from datastream.attached_games g
order by g.game_id nulls last, g.game_key collate "C"
