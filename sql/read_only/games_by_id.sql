-- As games_by_id.sql.
-- $1 bigint[]: ids that are numbers   $2 text[]: ids that are strings
select {g:id} as game_id, {g:key} as game_key, {slug} as slug, coalesce({name}, {slug}) as name, {type} as type
from datastream_games g
where {g:in $1 $2} and {slug} is not null and {type} is not null
