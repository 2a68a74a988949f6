-- As game_keys.sql.
select {g:id} as game_id, {g:key} as game_key
from datastream_games g
order by {g:order}
