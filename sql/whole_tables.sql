-- The attached tables, and whether each one, its table of games and the columns of its options exist under their names. Only
-- such a table can be attached again with the same options.
-- Columns: relation text, whole boolean.
select a.relation, datastream.is_whole(a) as whole
from datastream.attached a
order by a.id
