-- Reads everything that the server sends of these rounds, in UTF-8. If one round cannot be read, the statement fails.
select sum(octet_length(convert_to(concat_ws('', f.game_slug, f.game_type, f.extras), 'UTF8')))
from newest n
cross join lateral datastream.rounds_by_id(n.attachment, array[n.round_id], array[n.round_key]) f
