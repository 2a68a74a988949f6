-- Changes of an attached table by the game's migrations. PostgreSQL refuses to drop a column that our view or trigger reads, or to
-- change its type. A migration calls `before_change` and `after_change` around such statements, in its transaction.

set local lock_timeout = '2s';

-- The attachments between the two calls. The change may rename the tables, so they are known by oid. `always`: the triggers were
-- enabled ALWAYS.
create table datastream.changing (
  attachment integer primary key,
  relation oid,
  games oid,
  always boolean not null
);

-- Gives the objects that `attach` created to the owner of the schema, and lets the readers of the outbox read them. Changes
-- nothing if one role owns everything. Run it after attaching, in the same transaction.
create function datastream.adopt() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  owner name := (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'datastream');
  made record;
begin
  -- Functions run and views read with their owner's rights.
  for made in
    select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind, format('datastream.%I', c.relname) as name
    from pg_class c
    where c.relnamespace = 'datastream'::regnamespace and c.relkind in ('r', 'v', 'S') and pg_get_userbyid(c.relowner) <> owner
    union all
    select 'function', p.oid::regprocedure::text from pg_proc p
    where p.pronamespace = 'datastream'::regnamespace and pg_get_userbyid(p.proowner) <> owner
  loop
    execute format('alter %s %s owner to %I', made.kind, made.name, owner);
  end loop;
  -- So the owner must be able to read the attached tables.
  for made in
    select distinct t.name::regclass as name, t.name::regclass::oid as oid, c.relnamespace::regnamespace as schema
    from datastream.attached a
    cross join lateral (select a.relation union all select a.options->>'games') as t(name)
    join pg_class c on c.oid = to_regclass(t.name)
  loop
    if not has_schema_privilege(owner, made.schema::oid, 'usage') then
      execute format('grant usage on schema %s to %I', made.schema, owner);
    end if;
    if not has_table_privilege(owner, made.oid, 'select') then
      execute format('grant select on %s to %I', made.name, owner);
    end if;
  end loop;
  -- A view that was created again has no grants: the roles that may read the outbox get them.
  for made in
    select v.oid::regclass as name, pg_get_userbyid(g.grantee) as reader
    from pg_class f
    cross join lateral aclexplode(f.relacl) g
    join pg_class v on v.relnamespace = f.relnamespace and v.relkind = 'v' and v.relname ~ '^(attached_\d+_rounds|attached_games|finished_rounds)$'
    where f.oid = 'datastream.outbox'::regclass and g.privilege_type = 'SELECT' and g.grantee <> 0
      and pg_get_userbyid(g.grantee) <> owner and not has_table_privilege(g.grantee, v.oid, 'select')
  loop
    execute format('grant select on %s to %I', made.name, made.reader);
  end loop;
end
$$;

-- Fails if the table does not exist, unlike a wrong name that finds nothing attached.
create function datastream.existing(relation text, found_one regclass) returns regclass
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if found_one is null then
    raise undefined_table using message = format('table %s does not exist', relation), hint = 'Write its name as in SQL: schema.table, with double quotes if it needs them.';
  end if;
  return found_one;
end
$$;

-- Drops all that depends on columns of the table, for each attachment that reads it: triggers, view, conditions, and an index that
-- depends on a type of the game's (an enum in its condition). The options stay.
create function datastream.release(wanted regclass) returns void
language plpgsql
set lock_timeout = '2s' set client_min_messages = warning set search_path = pg_catalog, pg_temp
as $$
declare
  table_name text := datastream.qualified(wanted);
  numbers integer[];
  statement text;
begin
  lock table datastream.attached in share row exclusive mode;
  numbers := array(select a.id from datastream.attached a where table_name in (a.relation, a.options->>'games') order by a.id);
  insert into datastream.changing
  select a.id, to_regclass(a.relation), to_regclass(a.options->>'games'), exists (select from pg_trigger t
    where t.tgrelid = to_regclass(a.relation) and t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled = 'A')
  from datastream.attached a where a.id = any (numbers)
  on conflict (attachment) do update set relation = excluded.relation, games = excluded.games, always = changing.always or excluded.always;
  for statement in
    select s.* from datastream.reads_sql(array(select a from datastream.attached a where a.id <> all (numbers) and datastream.is_whole(a))) s
      where cardinality(numbers) > 0
    union all select format('drop view if exists datastream.attached_%s_rounds', n) from unnest(numbers) n
    union all select s from unnest(numbers) n cross join lateral datastream.remains_sql(n) s where s like 'drop trigger %'
    union all select s from unnest(numbers) n cross join lateral datastream.drop_settled_sql(n) s
    union all select format('drop index %s', datastream.qualified(i.indexrelid))
      from datastream.own_indexes() i join pg_class c on c.oid = i.indexrelid
      where i.attachment = any (numbers) and not c.relispartition and exists (select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid and d.refclassid = 'pg_type'::regclass)
  loop
    execute statement;
  end loop;
end
$$;

-- Before a migration drops, or gives another type to, a column that an attached table or a table of games has, or renames or replaces
-- the table. Does nothing for a table that is not attached.
create function datastream.before_change(relation text) returns void
language sql
as $$ select datastream.release(datastream.existing(relation, pg_catalog.to_regclass(relation))) $$;

-- The attachments that read the table, with its name and that of its table of games as they are now.
create function datastream.changed(wanted regclass) returns table (attachment integer, relation regclass, options jsonb)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with found as (
    select a.id, a.relation, a.options, to_regclass(a.options->>'games') as games, c.relation as was, c.games as games_were,
      wanted = c.relation or datastream.qualified(wanted) = a.relation or exists (select from pg_trigger t
        where t.tgrelid = wanted and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id))) as is_table,
      wanted = c.games or datastream.qualified(wanted) = a.options->>'games' as is_games
    from datastream.attached a left join datastream.changing c on c.attachment = a.id
  )
  select f.id,
    case when f.is_table then wanted else coalesce((select c.oid from pg_class c where c.oid = f.was), to_regclass(f.relation))::regclass end,
    f.options - '{finished_columns,finished_may_fail}'::text[]
      || case when f.options ? 'games' then jsonb_build_object('games', coalesce(datastream.qualified(case when f.is_games then wanted
        else coalesce((select c.oid from pg_class c where c.oid = f.games_were), f.games)::regclass end), f.options->>'games')) else '{}' end
  from found f where f.is_table or f.is_games order by f.id
$$;

-- Attaches a table again with these options, under its number. Builds its index again if it is gone or another one, unless
-- `datastream.index` is off: of a large table `attach --index` builds it while the game writes.
create function datastream.restore(number integer, relation regclass, given jsonb) returns void
language plpgsql
set lock_timeout = '2s' set client_min_messages = warning set search_path = pg_catalog, pg_temp
as $$
declare
  options jsonb := given;
  statement text;
begin
  lock table datastream.attached in share row exclusive mode;
  if datastream.column_type(relation, options->>'finished_at') not in ('timestamp'::regtype, 'date'::regtype) then
    options := options - 'time_zone';
  end if;
  if datastream.column_type(relation, options->>'finished_at') in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) then
    options := options - 'finished_at_unit';
  end if;
  update datastream.attached a set relation = datastream.qualified(restore.relation) where a.id = number and a.relation <> datastream.qualified(restore.relation);
  begin
    perform datastream.attach_as(relation, options, null, true, null);
  exception when invalid_parameter_value or unique_violation then
    raise invalid_parameter_value using message = format('cannot attach %s again: %s', datastream.qualified(relation), sqlerrm),
      hint = format('Pass the options that changed: select datastream.after_change(%L, ''{"finished_at": "ended_at"}'').', datastream.qualified(relation));
  end;
  for statement in
    select format('alter table %s enable always trigger %I', datastream.qualified(relation), t.name)
      from unnest('{datastream_inserted,datastream_updated}'::text[]) t(name)
      where exists (select from datastream.changing c where c.attachment = number and c.always)
    union all select s.* from datastream.index_sql(relation, online => false) s
      where exists (select from datastream.seed_indexes i where i.attachment = number) and coalesce(current_setting('datastream.index', true), '') <> 'off'
    union all select format('delete from datastream.changing where attachment = %s', number)
  loop
    execute statement;
  end loop;
  perform datastream.adopt();
end
$$;

-- After the change: attaches the table again, or each table whose games it has, with the same options and those in `given`, for
-- instance {"finished_at": "ended_at"} for a column that was renamed. Fails if they do not fit the table, with every problem.
create function datastream.after_change(relation text, given jsonb default '{}') returns void
language sql
as $$
  select datastream.restore(c.attachment, c.relation, datastream.attach_options(c.relation, c.options operator(pg_catalog.||) given))
  from datastream.changed(datastream.existing(relation, pg_catalog.to_regclass(relation))) c
$$;
