-- As games.sql.
-- $1 bigint[]: ids that are numbers, or null for all games   $2 text[]: ids that are strings
select {g:id} as game_id, {g:key} as game_key, {slug} as slug, coalesce({name}, {slug}) as name, {type} as type
from datastream_games g
where case when $1::bigint[] is null or {g:in $1 $2} then {slug} is not null and {type} is not null else false end
order by {g:order}
