-- All games: what maps a game_id to its slug and type, and what GET /games answers.
-- No parameters.
-- Columns: id bigint, slug text, name text, type text.
-- The casts are for attached tables with smaller keys: the view keeps a table's own types.
select g.id::bigint as id, g.slug, g.name, g.type
from datastream.games g
order by g.id
