-- The attached tables, and whether each one, its table of games and the columns of its options exist under their names. Only
-- then can it be attached again with the same options.
-- Columns: relation text, whole boolean.
select a.relation, datastream.is_whole(a) and not exists (
  select from (
    select e.value #>> '{}' as name from jsonb_each(a.options) e where e.key in ('id', 'finished_at', 'extras', 'game_id', 'slug_column', 'type_column')
    union all
    select c.name from jsonb_array_elements_text(a.options->'extras_columns') as c(name)) o
  where not exists (select from pg_attribute t
    where t.attrelid = to_regclass(a.relation) and t.attname = o.name and t.attnum > 0 and not t.attisdropped)) as whole
from datastream.attached a
order by a.id
