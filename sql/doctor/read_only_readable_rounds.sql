-- As readable_rounds.sql.
select sum(octet_length(convert_to(concat_ws('', f.game_slug, f.game_type, f.extras), 'UTF8')))
from newest n join datastream_finished f on {round:named}
