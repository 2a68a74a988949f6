-- The ids of all games. It reads nothing else of them: for when the row of one cannot be read.
-- Columns: game_id bigint (null if the id is a string), game_key text (null if it is a number).
select g.game_id, g.game_key
from datastream.attached_games g
