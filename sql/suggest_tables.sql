-- The tables of the game, for `attach --suggest`: one JSON text for each. Reads the catalog only.
-- Its parameter is a table as in SQL, or null for all tables. The program inserts it as a literal, because poolers keep no
-- prepared statements.
with recursive bases as (
  select t.oid, t.oid as base from pg_type t where t.typtype <> 'd'
  union all
  select t.oid, b.base from bases b join pg_type t on t.typtype = 'd' and t.typbasetype = b.oid
), columns as (
  select a.attrelid as relation, a.attnum as number, a.attname::text as name, quote_ident(a.attname) as quoted,
    b.base::regtype::text as type, a.attnotnull as required, a.attgenerated::text as generated,
    a.atthasdef and a.attgenerated = '' as has_default,
    a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\(', false) or b.base = 'uuid'::regtype as is_filled,
    array(select e.enumlabel::text from pg_enum e where e.enumtypid = b.base order by e.enumsortorder)
      || array(select m[1] from pg_constraint k, regexp_matches(pg_get_constraintdef(k.oid), '''([^'']+)''', 'g') m
        where k.conrelid = a.attrelid and k.contype = 'c' and k.conkey = array[a.attnum]) as labels
  from pg_attribute a join bases b on b.oid = a.atttypid
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
), relations as (
  select c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) as qualified, c.relname::text as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname not in ('datastream', '_timescaledb_internal')
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select json_build_object('table', r.qualified, 'name', r.name, 'partitioned', r.relkind = 'p',
  'columns', (select json_agg(c order by c.number) from columns c where c.relation = r.oid),
  'keys', coalesce((select json_agg(k.names order by k.indisprimary desc, cardinality(k.names), k.indexrelid) from (
      select i.indexrelid, i.indisprimary, array_agg(a.attname::text order by p.place) as names
      from pg_index i cross join lateral unnest(i.indkey) with ordinality p(number, place)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = p.number
      where i.indrelid = r.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
        and p.place <= i.indnkeyatts
      group by i.indexrelid, i.indisprimary) k), '[]'),
  'references', coalesce((select json_agg(json_build_object('column', a.attname, 'table', g.qualified, 'name', g.name, 'id', ga.attname,
        'columns', (select json_agg(c order by c.number) from columns c where c.relation = g.oid)))
      from pg_constraint f join relations g on g.oid = f.confrelid
      join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
      join pg_attribute ga on ga.attrelid = f.confrelid and ga.attnum = f.confkey[1]
      where f.contype = 'f' and f.conrelid = r.oid and cardinality(f.conkey) = 1), '[]'))::text as "table"
from relations r
where r.oid = coalesce(to_regclass($1)::oid, case when $1 is null then r.oid end)
  and not exists (select from pg_trigger t where t.tgrelid = r.oid and t.tgname = 'datastream_inserted')
  and not exists (select from pg_inherits i where i.inhparent = r.oid and r.relkind = 'r')
  and exists (select from columns c where c.relation = r.oid)
order by r.qualified
