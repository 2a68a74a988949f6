-- Columns: those of games.sql.
select {g:id} as game_id, {g:key} as game_key, {slug} as slug, coalesce({name}, {slug}) as name, {type} as type
from datastream_games g
where {slug} is not null and {type} is not null
order by {g:order}
