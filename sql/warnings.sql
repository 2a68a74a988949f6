-- What is odd about an attached table and its games, and worth a word. Looks at small tables only.
-- $1 text: the table
-- Columns: warning text.
select format('no index on %s begins with %I: each look for a round by its id reads the whole table; build one', a.relation, a.options->>'id') as warning
from datastream.attached a
where a.relation = $1 and not exists (
  select from pg_index i join pg_attribute c on c.attrelid = i.indrelid and c.attnum = i.indkey[0]
  where i.indrelid = a.relation::regclass and i.indpred is null and i.indisvalid and c.attname = a.options->>'id')
union all
select format('the games of two attached tables have the same id %s: their rounds would be mixed up', g.id)
from datastream.games g
where (select bool_and(a.options ? 'games' or a.options ? 'slug') from datastream.attached a)
group by g.id having count(*) > 1
union all
select format('%s games have the slug %s: a stream by that name shows one of them', count(*), g.slug)
from datastream.games g
where (select bool_and(a.options ? 'games' or a.options ? 'slug') from datastream.attached a)
group by g.slug having count(*) > 1
