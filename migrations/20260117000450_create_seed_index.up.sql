-- The seed index of an attached table: by it the server finds the latest round of a game. It is a plain index over the table's own
-- columns, so that a dump of the game's schema restores, and tools that read the schema print it.

set local lock_timeout = '2s';

-- The indexes that `attach --index` made, by name and by oid: an index may be renamed, and a restored one has another oid. Nothing of
-- the table depends on this schema, so only these rows tell which indexes `detach` drops.
create table datastream.seed_indexes (
  attachment integer not null,
  name text not null,
  index_oid oid,
  definition text not null,
  primary key (attachment, name)
);

-- A relation by its full name. Unlike `to_regclass` it needs no right on the schema, which the role of `doctor` does not have.
create function datastream.relation_named(name text) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$ select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where format('%I.%I', n.nspname, c.relname) = name $$;

-- Our indexes, with the definition that they were made by, and those of partitions that PostgreSQL made after them.
create function datastream.own_indexes() returns table (attachment integer, indexrelid regclass, indrelid regclass, definition text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recorded as (
    select s.attachment, i.indexrelid, s.definition
    from datastream.seed_indexes s
    join pg_index i on i.indexrelid = datastream.relation_named(s.name) or i.indexrelid = s.index_oid
    join pg_class c on c.oid = i.indexrelid and c.relname ~ '^datastream_latest_'
  ), own as (
    select * from recorded
    union
    select r.attachment, p.relid, r.definition from recorded r cross join lateral pg_partition_tree(r.indexrelid) p
  )
  select distinct on (i.indexrelid) o.attachment, i.indexrelid::regclass, i.indrelid::regclass, o.definition
  from own o join pg_index i on i.indexrelid = o.indexrelid
  order by i.indexrelid, o.attachment desc
$$;

-- The columns and the condition of a table's seed index. Strings are not part of it: those of one moment are sorted by the id as
-- it is on the wire, which no index of the columns does.
create function datastream.index_definition(options jsonb, is_number boolean, number integer) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('(%s%I desc%s) where %s', quote_ident(options->>'game_id') || ', ', options->>'finished_at',
    case when is_number then format(', %I desc', options->'id'->>0) end,
    -- A condition that may raise an error would fail the game's writes.
    case when options ? 'finished_may_fail' then format('%I is not null', options->>'finished_at')
      else replace(datastream.finished_sql(options, number, 'datastream_row'), 'datastream_row.', '') end)
$$;

-- The statements that build the seed index, by which the server finds the latest round of a game. None if it exists and is
-- valid. By default they use CONCURRENTLY, and each runs on its own, outside a transaction.
-- First they drop our indexes with another definition, and invalid ones that an interrupted CONCURRENTLY left.
-- PostgreSQL cannot build the index of a partitioned table concurrently, so they build one for each partition. The
-- parent's index is invalid until every partition has one. An invalid index must not be attached to it: it stays
-- invalid, and cannot be dropped alone.
create function datastream.index_sql(relation regclass, online boolean default true) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp  -- PostgreSQL prints the names in an index with their schema if it is not in the path
as $$
declare
  a datastream.attached;
  how text := case when online then 'concurrently ' else '' end;
  wanted_definition text;
  predicate text;
  keys text[];
  ours jsonb;       -- by table: our index that is right
  wrong regclass[]; -- our other indexes
  part record;
  mine regclass;
  index_name text;
  taken regclass;
begin
  select * into a from datastream.attached t where t.relation = datastream.qualified(index_sql.relation);
  if not found then
    raise undefined_object using message = format('%s is not attached', datastream.qualified(index_sql.relation));
  end if;
  wanted_definition := datastream.index_definition(a.options, datastream.has_numbers(relation, a.options), a.id);
  -- As PostgreSQL prints them. It prints a condition in another way than it was written: of such an index the recorded text counts.
  keys := array_remove(array[quote_ident(a.options->>'game_id'), quote_ident(a.options->>'finished_at'),
    case when datastream.has_numbers(relation, a.options) then quote_ident(a.options->'id'->>0) end], null);
  predicate := case when not a.options ? 'finished_when' or a.options ? 'finished_may_fail' then format('(%I IS NOT NULL)', a.options->>'finished_at') end;

  with found as (
    select i.indrelid, i.indexrelid, c.relispartition as is_attached, coalesce(pg_partition_root(i.indexrelid), i.indexrelid) as root,
      keys = array(select pg_get_indexdef(i.indexrelid, n, false) from generate_series(1, x.indnkeyatts) n)
        and coalesce(pg_get_expr(x.indpred, x.indrelid) = predicate, i.definition = wanted_definition) and (x.indisvalid or c.relkind = 'I') as is_right
    from datastream.own_indexes() i join pg_index x on x.indexrelid = i.indexrelid join pg_class c on c.oid = i.indexrelid
    where i.indrelid in (select relation union all select p.relid from pg_partition_tree(relation) p)
  ), roots as (
    select f.root, bool_and(f.is_right) as is_right from found f group by f.root
  )
  select coalesce(jsonb_object_agg(f.indrelid::oid, f.indexrelid::oid order by f.is_attached) filter (where r.is_right), '{}'),
    array_agg(distinct f.root) filter (where not r.is_right)
  into ours, wrong from found f join roots r on r.root = f.root;
  return query select format('drop index %s%s', case when c.relkind = 'i' then how else '' end, datastream.qualified(c.oid))
    from pg_class c where c.oid = any (wrong) order by c.oid;

  for part in
    select t.*, c.relnamespace::regnamespace as schema_name from (
      select p.relid, p.parentrelid, p.isleaf, p.level from pg_partition_tree(relation) p
      union all select relation, null, true, 0 where not exists (select from pg_partition_tree(relation))) t
    join pg_class c on c.oid = t.relid order by t.level, t.relid
  loop
    mine := (ours->>part.relid::oid::text)::oid;
    index_name := datastream.qualified(mine);
    if mine is null then
      index_name := format('datastream_latest_%s', a.id) || case when part.level > 0 then format('_%s', part.relid::oid) else '' end;
      -- The name may be that of our own index whose row is lost (`drop schema`), or of something else.
      taken := datastream.relation_named(format('%s.%I', part.schema_name, index_name));
      if taken is not null and exists (select from pg_index i where i.indexrelid = taken and i.indrelid = part.relid) and taken <> all (coalesce(wrong, '{}')) then
        return next format('drop index %s%s', case when exists (select from pg_class c where c.oid = taken and c.relkind = 'i') then how else '' end, datastream.qualified(taken));
      elsif taken is not null and taken <> all (coalesce(wrong, '{}')) then
        index_name := format('%s_%s', index_name, part.relid::oid);
      end if;
      if not exists (select from datastream.seed_indexes s where s.attachment = a.id and s.name = format('%s.%I', part.schema_name, index_name) and s.definition = wanted_definition and s.index_oid is null) then
        return next format('insert into datastream.seed_indexes (attachment, name, definition) values (%s, %L, %L) '
          'on conflict (attachment, name) do update set definition = excluded.definition, index_oid = null', a.id, format('%s.%I', part.schema_name, index_name), wanted_definition);
      end if;
      return next format('create index %s%s on %s%s %s', case when part.isleaf then how else '' end, index_name,
        case when part.isleaf or not online then '' else 'only ' end, datastream.qualified(part.relid), wanted_definition);
      index_name := format('%s.%s', part.schema_name, index_name);
      return next format('update datastream.seed_indexes set index_oid = to_regclass(name) where attachment = %s and name = %L', a.id, index_name);
    elsif exists (select from datastream.seed_indexes s where s.attachment = a.id and datastream.relation_named(s.name) = mine and s.index_oid is distinct from mine) then
      return next format('update datastream.seed_indexes set index_oid = to_regclass(name) where attachment = %s and name = %L', a.id, index_name);
    end if;
    exit when not online;  -- the statement for the parent covers all partitions
    if part.level > 0 and not coalesce((select c.relispartition from pg_class c where c.oid = mine), false) then
      return next format('alter index %s attach partition %s', ours->>part.parentrelid::oid::text, index_name);
    end if;
    ours := ours || jsonb_build_object(part.relid::oid::text, index_name);
  end loop;
end
$$;
