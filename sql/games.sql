-- Games with their slug, name and type, for rounds and for GET /games.
-- $1 bigint[]: ids that are numbers, or null for all games   $2 text[]: ids that are strings
-- Columns: game_id bigint (null if the id is a string), game_key text (null if it is a number), slug text, name text, type text.
-- CASE keeps PostgreSQL from reading the slug of a game that is not in the answer.
select g.game_id, g.game_key, g.slug, g.name as name, g.type
from datastream.attached_games g
where case when $1::bigint[] is null or g.game_id = any ($1::bigint[]) or g.game_key = any ($2::text[]) then g.slug is not null and g.type is not null else false end
order by g.game_id nulls last, g.game_key collate "C"
