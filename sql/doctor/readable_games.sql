-- Reads all that is sent of the games, in UTF-8: one that cannot be read makes the statement fail.
select sum(octet_length(convert_to(concat_ws('', g.slug, g.name, g.type), 'UTF8'))) from datastream.attached_games g
