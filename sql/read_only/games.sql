-- Columns: those of games.sql.
select {g:id} as game_id, {g:key} as game_key, g.slug::text as slug, coalesce(g.name::text, g.slug::text) as name, g.type::text as type
from datastream_games g
where g.slug is not null and g.type is not null
order by {g:order}
