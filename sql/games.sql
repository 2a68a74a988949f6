-- All games: what maps a game's id to its slug and type, and what GET /games answers.
-- No parameters.
-- Columns: game_id bigint (null if the id is a string), game_key text (null if it is a number), slug text, name text, type text.
select g.game_id, g.game_key, g.slug, g.name, g.type
from datastream.attached_games g
order by g.game_id nulls last, g.game_key collate "C"
