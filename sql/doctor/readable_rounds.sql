-- Reads all that is sent of these rounds, in UTF-8: one that cannot be read makes the statement fail.
select sum(octet_length(convert_to(concat_ws('', f.game_slug, f.game_type, f.extras), 'UTF8')))
from newest n
cross join lateral datastream.rounds_by_id(n.attachment, array[n.round_id], array[n.round_key]) f
