-- `attach` and `detach`: a game's own table gets triggers, a view and an index, and loses them.

set local lock_timeout = '2s';

-- Whether our view still reads the attached table and its table of games under the names that they had when they were
-- attached. False if one was renamed, dropped or replaced, or a column that `games_sql` names.
create function datastream.is_whole(t datastream.attached) returns boolean
language sql stable
as $$
  select not exists (select from unnest(array[t.relation, t.options->>'games']) as n(name)
    where n.name is not null and not exists (select from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      where r.ev_class = to_regclass('datastream.rounds_' || t.id) and d.refobjid = to_regclass(n.name)))
    and not exists (select from jsonb_each_text(t.options) o
      where o.key in ('finished_at', 'games_id', 'games_slug', 'games_name', 'games_type') and not exists (select from pg_catalog.pg_attribute c
        where c.attrelid = to_regclass(case o.key when 'finished_at' then t.relation else t.options->>'games' end)
          and c.attname = o.value and not c.attisdropped))
$$;

-- Whether the views and functions that the server reads exist and include this table. (`drop ... cascade` of a table drops its views.)
create function datastream.is_read(t datastream.attached) returns boolean
language sql stable
as $$
  select datastream.is_whole(t) and to_regclass('datastream.games') is not null
    and to_regprocedure('datastream.rounds_by_id(bigint[])') is not null
    and to_regprocedure('datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint)') is not null
    and exists (select from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      where r.ev_class = to_regclass('datastream.finished_rounds') and d.refobjid = to_regclass('datastream.rounds_' || t.id))
$$;

-- The other attached tables that can be read. Raises a notice for each that cannot.
create function datastream.others(number integer) returns datastream.attached[]
language plpgsql stable
as $$
declare
  other datastream.attached;
begin
  for other in select * from datastream.attached a where a.id is distinct from number and not datastream.is_whole(a) loop
    raise notice '% is left out of what is read: it, its table of games or a column of theirs is not there by its name (renamed, dropped?); attach it again as all is called now, or detach it', other.relation;
  end loop;
  return array(select a from datastream.attached a where a.id is distinct from number and datastream.is_whole(a));
end
$$;

-- Our indexes, under any name: all that use this schema's predicate.
create function datastream.own_indexes() returns table (indexrelid regclass, indrelid regclass)
language sql stable
as $$
  select i.indexrelid::regclass, i.indrelid::regclass
  from pg_catalog.pg_depend d join pg_catalog.pg_index i on i.indexrelid = d.objid
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_proc'::regclass
    and d.refobjid = 'datastream.is_finished(anyelement)'::regprocedure
$$;

-- The statements that drop our triggers and indexes from every table that was attached by this number, except `kept`.
-- Dependencies on our functions find them, because a table may have another name now. A partition's trigger and index are
-- dropped with the parent's. A partition that was detached from its parent has kept the index, and `like ... including
-- indexes` copies one; these are dropped when the table is detached, if this role may.
create function datastream.remains_sql(number integer, kept regclass default null) returns setof text
language sql stable
as $$
  select format('drop trigger %I on %s', t.tgname, datastream.qualified(t.tgrelid)) from pg_catalog.pg_trigger t
  where t.tgfoid in (to_regprocedure(format('datastream.inserted_%s()', number)), to_regprocedure(format('datastream.updated_%s()', number)))
    and t.tgparentid = 0 and t.tgrelid is distinct from kept
  union all
  select format('drop index %s', datastream.qualified(i.indexrelid)) from datastream.own_indexes() i join pg_catalog.pg_class c on c.oid = i.indexrelid
  where not c.relispartition and pg_has_role(c.relowner, 'usage')
    and (kept is null or exists (select from pg_catalog.pg_trigger t
      where t.tgrelid = i.indrelid and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', number))))
    and i.indrelid not in (select kept where kept is not null union all select p.relid from pg_partition_tree(kept) p)
    and not exists (select from datastream.attached other join pg_catalog.pg_trigger t on t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', other.id))
      where other.id <> number and t.tgrelid = i.indrelid)
$$;

-- The next id of a table's sequence (of an identity, serial or default), and its step. Null if the table has none.
create function datastream.next_id(relation regclass, id text, out sequence regclass, out step bigint, out next_one numeric)
language plpgsql stable
as $$
begin
  select s.seqrelid, s.seqincrement into sequence, step from pg_catalog.pg_sequence s
  where has_sequence_privilege(s.seqrelid, 'select') and s.seqrelid in (
    -- `pg_get_serial_sequence` fails if the column was renamed.
    select d.objid from pg_catalog.pg_attribute c
    join pg_catalog.pg_depend d on d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.attrelid and d.refobjsubid = c.attnum
    where c.attrelid = relation and c.attname = id
    union all
    select d.refobjid from pg_catalog.pg_attribute c
    join pg_catalog.pg_attrdef f on f.adrelid = c.attrelid and f.adnum = c.attnum
    join pg_catalog.pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    where c.attrelid = relation and c.attname = id)
  limit 1;
  if found then
    execute format('select last_value::numeric + case when is_called then %s else 0 end from %s', step, datastream.qualified(sequence)) into next_one;
  end if;
end
$$;

-- The query for an id that two tables share. It looks up the lowest and highest thousand ids of one in the other's index.
create function datastream.shared_id_sql(one text, id text, other text, other_id text) returns text
language sql stable
as $$
  select format('(select a.id from ((select %2$I::bigint as id from %1$s order by %2$I limit 1000) union all (select %2$I from %1$s order by %2$I desc limit 1000)) a '
    'cross join lateral (select from %3$s b where b.%4$I = a.id limit 1) b limit 1)', one, id, other, other_id)
$$;

-- Whether this role may read the ids, and an index begins with them. Without one PostgreSQL would read the whole table.
create function datastream.is_indexed(relation text, id text) returns boolean
language sql stable
as $$
  select has_table_privilege(relation, 'select') and exists (select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute c on c.attrelid = i.indrelid and c.attnum = i.indkey[0]
    where i.indrelid = to_regclass(relation) and i.indpred is null and i.indisvalid and c.attname = id)
$$;

-- An id that two tables share. Null if there is none, or if it cannot be looked up.
create function datastream.shared_id(one text, id text, other text, other_id text) returns bigint
language plpgsql stable
as $$
declare
  shared bigint;
begin
  if datastream.is_indexed(one, id) and datastream.is_indexed(other, other_id) then
    execute datastream.shared_id_sql(one, id, other, other_id) || ' union all ' || datastream.shared_id_sql(other, other_id, one, id) || ' limit 1' into shared;
  end if;
  return shared;
end
$$;

-- Raises an error if a round of this table and one of an attached table have the same id. Raises a notice if their sequences
-- will give the same ids: they are less than a hundred million apart, are not the same sequence, and do not alternate.
create function datastream.look_at_ids(relation regclass, id text, others datastream.attached[]) returns void
language plpgsql stable
as $$
declare
  this_one text := datastream.qualified(relation);
  own record := datastream.next_id(relation, id);
  other record;
  shared bigint;
begin
  for other in
    select o.relation as name, o.options->>'id' as id, n.sequence, n.step, n.next_one
    from unnest(others) o cross join lateral datastream.next_id(o.relation::regclass, o.options->>'id') n
  loop
    shared := datastream.shared_id(this_one, id, other.name, other.id);
    if shared is not null then
      raise unique_violation using
        message = format('ids of rounds must not be the same in two attached tables: %s is in %s and in %s', shared, this_one, other.name),
        hint = 'Detach that one, or give one of them ids of another range.';
    end if;
    if own.sequence <> other.sequence and abs(own.next_one - other.next_one) < 100000000
      and (own.step <> other.step or (own.next_one - other.next_one) % own.step = 0) then
      raise notice '% and % will give rounds the same ids: their sequences go on at % and at %; give one another range: alter sequence % restart with %',
        this_one, other.name, own.next_one, other.next_one, datastream.qualified(own.sequence),
        (div(greatest(own.next_one, other.next_one), 1000000000) + 1) * 1000000000;
    end if;
  end loop;
end
$$;

-- A transaction that has notified cannot be prepared. If two-phase commit is on, `auto` becomes `poll`.
create function datastream.capture_mode(wanted text) returns text
language plpgsql stable
as $$
begin
  if wanted not in ('auto', 'notify', 'poll') then
    raise invalid_parameter_value using message = format('capture is auto, notify or poll, not %s', wanted);
  elsif wanted = 'auto' and current_setting('max_prepared_transactions')::integer > 0 then
    raise notice 'max_prepared_transactions is above 0: capture is poll, so that PREPARE TRANSACTION goes on working';
    return 'poll';
  end if;
  return wanted;
end
$$;

-- Attaches a table. Returns the statements that it ran, or would run (`dry_run`). Returns none if the table is attached with
-- the same options and nothing is missing. A null parameter means the default. Only ids distinguish the rounds and games
-- of several attached tables, so they must not overlap.
create function datastream.attach(
  relation regclass,
  id text default null,               -- the round's key: an integer column, 'id'
  finished_at text default null,      -- 'finished_at'
  extras text default null,           -- a jsonb, json or text column, 'extras'
  extras_columns text[] default null, -- or the columns to make an object of
  game_id text default null,          -- 'game_id'
  game_id_value bigint default null,  -- or the one game's id
  games regclass default null,        -- the table of games, public.games
  games_id text default null, games_slug text default null, games_name text default null, games_type text default null,
  slug_column text default null, type_column text default null,  -- or columns of the round
  slug text default null, type text default null,                -- or constants
  time_zone text default null,        -- of a finished_at without time zone, 'UTC'
  capture text default null,          -- auto, notify or poll; 'auto' for a new table, otherwise unchanged
  replace boolean default null,       -- whether to change the options of an attached table
  dry_run boolean default null
) returns setof text
language plpgsql
set lock_timeout = '2s' set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  table_name text := datastream.qualified(attach.relation);
  options jsonb := datastream.attach_options(attach.relation, jsonb_build_object(
    'id', attach.id, 'finished_at', attach.finished_at, 'extras', attach.extras, 'extras_columns', to_jsonb(attach.extras_columns),
    'game_id', attach.game_id, 'game_id_value', attach.game_id_value, 'games', datastream.qualified(attach.games),
    'games_id', attach.games_id, 'games_slug', attach.games_slug, 'games_name', attach.games_name, 'games_type', attach.games_type,
    'slug_column', attach.slug_column, 'type_column', attach.type_column, 'slug', attach.slug, 'type', attach.type,
    'time_zone', attach.time_zone));
  mode text;
  old datastream.attached;
  wanted datastream.attached;
  others datastream.attached[];
  statement text;
begin
  lock table datastream.attached in share row exclusive mode;  -- one attach at a time
  select * into old from datastream.attached a where a.relation = table_name;
  if not found then  -- attached by a name that it no longer has?
    select a.* into old from datastream.attached a
    where to_regclass(a.relation) is null and exists (select from pg_catalog.pg_trigger t
      where t.tgrelid = attach.relation and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)));
  end if;
  mode := datastream.capture_mode(coalesce(attach.capture, old.capture, 'auto'));
  if old.relation = table_name and old.options = options and old.capture = mode
    and datastream.has_triggers(attach.relation) and datastream.is_read(old) then
    return;
  elsif (old.options <> options or old.capture <> mode) and attach.replace is not true then
    raise object_not_in_prerequisite_state using
      message = format('%s is attached in another way', table_name),
      hint = 'Repeat with replace => true (datastream attach --replace) to change that.';
  end if;
  others := datastream.others(old.id);
  if cardinality(others) > 0 then
    raise notice 'other tables are attached: ids of rounds, and ids of games, must not overlap among them';
  end if;
  if old.id is null or not datastream.is_whole(old) then
    perform datastream.look_at_ids(attach.relation, options->>'id', others);
  end if;
  wanted := row(table_name, coalesce(old.id, (select max(a.id) from datastream.attached a) + 1, 1), mode, options, coalesce(old.attached_at, now()));
  for statement in
    select format('update datastream.attached set relation = %L where relation = %L', table_name, old.relation) where old.relation <> table_name
    union all
    select format('insert into datastream.attached (relation, id, capture, options) values (%L, %s, %L, %L) '
      'on conflict (relation) do update set capture = excluded.capture, options = excluded.options',
      table_name, wanted.id, mode, options)
    union all select * from datastream.reads_sql(others) where old.id is not null
    union all select format('drop view if exists datastream.rounds_%s', wanted.id) where old.id is not null
    union all select datastream.view_sql(wanted)
    union all select * from datastream.reads_sql(others || wanted)
    union all select * from datastream.remains_sql(wanted.id, attach.relation)
    union all select * from datastream.triggers_sql(attach.relation, options, wanted.id, mode)
  loop
    if attach.dry_run is not true then
      execute statement;
    end if;
    return next statement;
  end loop;
end
$$;

-- Drops the triggers, functions, view and indexes of a table, and removes it from the common views. A table that was renamed
-- is found by its new name or by the one in datastream.attached, a dropped one by the latter. Returns the statements that
-- it ran.
create function datastream.let_go(relation text, attached_to regclass, dry_run boolean) returns setof text
language plpgsql
set lock_timeout = '2s' set search_path = pg_catalog, pg_temp
as $$
declare
  table_name text := coalesce(datastream.qualified(attached_to), let_go.relation);
  number integer;
  statement text;
begin
  lock table datastream.attached in share row exclusive mode;
  select a.id into number from datastream.attached a
  where a.relation = table_name or exists (select from pg_catalog.pg_trigger t
    where t.tgrelid = attached_to and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)))
  order by a.relation = table_name desc limit 1;
  if not found then
    raise undefined_object using message = format('%s is not attached', table_name),
      hint = coalesce('Attached: ' || (select string_agg(a.relation, ', ' order by a.id) from datastream.attached a) || '. Write it so, quoted where it is.',
        'No table is attached.');
  end if;
  for statement in
    select * from datastream.reads_sql(datastream.others(number))
    union all select format('drop view if exists datastream.rounds_%s', number)
    union all select * from datastream.remains_sql(number)
    union all select format('drop function if exists datastream.inserted_%s()', number)
    union all select format('drop function if exists datastream.updated_%s()', number)
    union all select format('delete from datastream.attached where id = %s', number)
  loop
    if let_go.dry_run is not true then
      execute statement;
    end if;
    return next statement;
  end loop;
end
$$;

-- The same for a name as in SQL, which the caller's search_path resolves. `let_go` has a search_path of its own.
create function datastream.detach(relation text, dry_run boolean default null) returns setof text
language sql
as $$ select * from datastream.let_go(relation, pg_catalog.to_regclass(relation), dry_run) $$;

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
  finished text;
  keys text[];
  predicate text;
  ours jsonb;       -- by table: our index that is right
  wrong regclass[]; -- our other indexes
  part record;
  mine regclass;
  name text;
begin
  select * into a from datastream.attached t where t.relation = datastream.qualified(index_sql.relation);
  if not found then
    raise undefined_object using message = format('%s is not attached', datastream.qualified(index_sql.relation));
  end if;
  -- As PostgreSQL prints them, for the comparison below.
  finished := quote_ident(a.options->>'finished_at');
  predicate := format('datastream.is_finished(%s)', finished);
  keys := array_remove(array[quote_ident(a.options->>'game_id'),
    case when not a.options ? 'time_zone' then finished
         when exists (select from pg_attribute c where c.attrelid = relation and c.attname = a.options->>'finished_at' and c.atttypid = 'timestamp'::regtype)
           then format('datastream.moment(%L::text, %s)', a.options->>'time_zone', finished)
         else format('datastream.moment(%L::text, (%s)::timestamp without time zone)', a.options->>'time_zone', finished) end,
    quote_ident(a.options->>'id')], null);

  with found as (
    select i.indrelid, i.indexrelid, c.relispartition as is_attached, coalesce(pg_partition_root(i.indexrelid), i.indexrelid) as root,
      keys = array(select pg_get_indexdef(i.indexrelid, n, false) from generate_series(1, x.indnkeyatts) n)
        and pg_get_expr(x.indpred, x.indrelid) = predicate and (x.indisvalid or c.relkind = 'I') as is_right
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
    name := datastream.qualified(mine);
    if mine is null then
      name := format('datastream_latest_%s', a.id) || case when part.level > 0 then format('_%s', part.relid::oid) else '' end;
      return next format('create index %s%s on %s%s (%s desc) where %s', case when part.isleaf then how else '' end, name,
        case when part.isleaf or not online then '' else 'only ' end, datastream.qualified(part.relid),
        case when a.options ? 'game_id' then keys[1] || ', ' || array_to_string(keys[2:], ' desc, ') else array_to_string(keys, ' desc, ') end, predicate);
      name := format('%s.%s', part.schema_name, name);
    end if;
    exit when not online;  -- the statement for the parent covers all partitions
    if part.level > 0 and not coalesce((select c.relispartition from pg_class c where c.oid = mine), false) then
      return next format('alter index %s attach partition %s', ours->>part.parentrelid::oid::text, name);
    end if;
    ours := ours || jsonb_build_object(part.relid::oid::text, name);
  end loop;
end
$$;
