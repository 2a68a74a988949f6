-- Some games. Columns: those of games.sql.
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings
select g.game_id, g.game_key, g.slug, g.name, g.type
from datastream.attached_games g
where g.game_id = any ($1::bigint[]) or g.game_key = any ($2::text[])
