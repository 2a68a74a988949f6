-- The attached tables and their options: defaults, and the condition of --finished-when as PostgreSQL prints it.

set local lock_timeout = '2s';

-- One row for each attached table. `id` is its number in the outbox, and part of the names of its generated objects.
create table datastream.attached (
  relation text primary key,
  id integer not null unique check (id > 0),
  capture text not null check (capture in ('auto', 'notify', 'poll')),
  options jsonb not null,
  attached_at timestamptz not null default now()
);

-- The numbers that were given. None is given twice: the outbox may have rows of a table that was detached.
create table datastream.attachments_given (
  id integer primary key
);

-- The full name of a table, quoted if necessary; the search_path has no effect on it.
create function datastream.qualified(relation regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
$$;

-- The columns of a table with their types; of a domain, its base type.
create function datastream.columns_of(relation regclass)
returns table (name text, type regtype, number smallint, required boolean, has_default boolean, generated "char")
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select a.attname::text, b.type, a.attnum, a.attnotnull, a.atthasdef and a.attgenerated = '' or a.attidentity <> '', a.attgenerated
  from pg_attribute a
  cross join lateral (
    with recursive through as (
      select a.atttypid as type
      union all
      select t.typbasetype from through join pg_type t on t.oid = through.type where t.typtype = 'd'
    ) select t.oid::regtype as type from through join pg_type t on t.oid = through.type where t.typtype <> 'd'
  ) b
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;

create function datastream.column_type(relation regclass, wanted text) returns regtype
language sql stable
as $$ select c.type from datastream.columns_of(relation) c where c.name operator(pg_catalog.=) wanted $$;

-- What kind of id a type makes: 'integer', 'numeric', 'uuid', 'text', or null for other types.
create function datastream.id_kind(type regtype) returns text
language sql immutable
as $$
  select case when type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then 'integer'
    when type = 'numeric'::regtype then 'numeric'
    when type = 'uuid'::regtype then 'uuid'
    when type in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) then 'text' end
$$;

-- Whether the ids of a table are numbers on the wire.
create function datastream.has_numbers(relation regclass, options jsonb) returns boolean
language sql stable
as $$
  select jsonb_array_length(options->'id') = 1 and not options ?| '{id_prefix,id_text}'
    and coalesce(datastream.id_kind(datastream.column_type(relation, options->'id'->>0)) = 'integer', false)
$$;

-- Whether TimescaleDB splits the table into chunks. It refuses a trigger with a transition table on them, also after the fact.
create function datastream.is_hypertable(relation regclass) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  found_one boolean := false;
begin
  if to_regclass('_timescaledb_catalog.hypertable') is not null then
    execute 'select exists (select from _timescaledb_catalog.hypertable h join pg_class c on c.relname = h.table_name '
      'join pg_namespace n on n.oid = c.relnamespace and n.nspname = h.schema_name where c.oid = $1)' into found_one using relation;
  end if;
  return found_one;
end
$$;

-- A condition over a row as PostgreSQL prints it, fully qualified, with the row named `datastream_row`.
--
-- The names in the condition are resolved by the caller's search_path; everything else here by pg_catalog. An index on a temporary
-- table makes PostgreSQL check that the condition is immutable and has no subquery. The triggers run it with their owner's rights,
-- so it may use no function, operator or type of a role other than the schema's owner or a superuser. (An enum has no code.)
--
-- `may_fail`: the condition can raise an error. If it has no more than operators that PostgreSQL marks leakproof, or the comparisons
-- of enum and numeric, it cannot.
create function datastream.deparse(relation regclass, condition text, out expression text, out columns text[], out may_fail boolean, out problem text)
language plpgsql
as $$
declare
  caller_path text := pg_catalog.current_setting('search_path');
  level text := pg_catalog.current_setting('client_min_messages');
  rule oid;
  tree text;
begin
  perform pg_catalog.set_config('client_min_messages', 'warning', true);
  begin
    -- A line break ends a comment in the condition.
    execute pg_catalog.format(E'create temp view datastream_condition as select (%s\n) as datastream_condition from %s datastream_row, (values (0)) datastream_other',
      condition, datastream.qualified(relation));
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    if (select a.atttypid <> 'boolean'::regtype from pg_attribute a where a.attrelid = 'pg_temp.datastream_condition'::regclass and a.attnum = 1) then
      raise datatype_mismatch using message = 'it is not a condition';
    end if;
    expression := substring(pg_get_viewdef('pg_temp.datastream_condition'::regclass) from '^ SELECT\s+(.*) AS datastream_condition\n   FROM ');  -- CASE begins a line
    execute format('create temp table datastream_row (like %s)', datastream.qualified(relation));
    execute format('create index on pg_temp.datastream_row ((1)) where %s', expression);
    -- The last target list: `values` in FROM has one of its own.
    select r.oid, substring(r.ev_action::text from '.*:targetList (.*) :override') into rule, tree
    from pg_rewrite r where r.ev_class = 'pg_temp.datastream_condition'::regclass;
    columns := array(select a.attname::text from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_rewrite'::regclass and d.objid = rule and d.refclassid = 'pg_class'::regclass and d.refobjid = relation and a.attnum > 0
      order by a.attnum);
    select format('it uses %s, which belongs to another role than the owner of the schema datastream or a superuser', u.name) into problem
    from pg_depend d
    cross join lateral (
      select format('function %s', p.oid::regprocedure) as name, array[p.proowner] as owners from pg_proc p
      where d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
      union all
      select format('operator %s', o.oid::regoperator), array[o.oprowner, (select p.proowner from pg_proc p where p.oid = o.oprcode)] from pg_operator o
      where d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
      union all
      select format('type %s', t.oid::regtype), array[t.typowner] from pg_type t left join pg_type e on e.oid = t.typelem
      where d.refclassid = 'pg_type'::regclass and t.oid = d.refobjid and 'e' not in (t.typtype, coalesce(e.typtype, ''))) u
    where d.classid = 'pg_rewrite'::regclass and d.objid = rule and exists (select from unnest(u.owners) o(owner)
      where not exists (select from pg_roles r where r.oid = o.owner and r.rolsuper)
        and o.owner <> (select n.nspowner from pg_namespace n where n.nspname = 'datastream'))
    limit 1;
    may_fail := exists (select from regexp_matches(tree, '\{([A-Z]+)', 'g') as node(names)
        where node.names[1] <> all ('{TARGETENTRY,VAR,CONST,OPEXPR,DISTINCTEXPR,SCALARARRAYOPEXPR,ARRAY,ARRAYEXPR,ARRAYCOERCEEXPR,CASETESTEXPR,BOOLEXPR,NULLTEST,BOOLEANTEST,RELABELTYPE}'))
      or exists (select from regexp_matches(tree, ':opno (\d+)', 'g') as used(operators) join pg_operator o on o.oid = used.operators[1]::oid
        join pg_proc p on p.oid = o.oprcode
        where not p.proleakproof and p.oid <> all ('{enum_eq,enum_ne,numeric_eq,numeric_ne,numeric_lt,numeric_le,numeric_gt,numeric_ge}'::regproc[]));
    drop view pg_temp.datastream_condition;
    drop table pg_temp.datastream_row;
  exception when others then
    problem := sqlerrm;
  end;
  perform pg_catalog.set_config('search_path', caller_path, true), pg_catalog.set_config('client_min_messages', level, true);
end
$$;

-- The options that were given, with defaults, as datastream.attached keeps them: names as the caller's search_path resolves them, and
-- the condition deparsed. It checks nothing; a condition that PostgreSQL refuses leaves `finished_when_problem`.
create function datastream.attach_options(relation regclass, given jsonb) returns jsonb
language plpgsql
as $$
declare
  o jsonb := '{"id": ["id"], "finished_at": "finished_at"}'::pg_catalog.jsonb operator(pg_catalog.||) pg_catalog.jsonb_strip_nulls(given);
  condition record;
begin
  if o operator(pg_catalog.?) 'games' then
    o := o operator(pg_catalog.||) pg_catalog.jsonb_build_object('games',
      coalesce(datastream.qualified(pg_catalog.to_regclass(o operator(pg_catalog.->>) 'games')), o operator(pg_catalog.->>) 'games'));
  end if;
  if o operator(pg_catalog.?) 'finished_when' then
    condition := datastream.deparse(relation, o operator(pg_catalog.->>) 'finished_when');
    o := (o operator(pg_catalog.-) 'finished_may_fail') operator(pg_catalog.||) pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
      'finished_when', coalesce(condition.expression, o operator(pg_catalog.->>) 'finished_when'), 'finished_columns', condition.columns,
      'finished_may_fail', case when condition.may_fail then true end, 'finished_when_problem', condition.problem));
  end if;
  return datastream.with_defaults(relation, o);
end
$$;

create function datastream.with_defaults(relation regclass, given jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  o jsonb := given;
begin
  if datastream.column_type(relation, o->>'finished_at') in ('timestamp'::regtype, 'date'::regtype) then
    o := '{"time_zone": "UTC"}'::jsonb || o;
  end if;
  if not o ? 'extras_columns' then
    o := '{"extras": "extras"}'::jsonb || o;
  end if;
  if not o ? 'game_id_value' then
    o := '{"game_id": "game_id"}'::jsonb || o;
  end if;
  if not o ?| '{slug,slug_column}' then  -- the game is in a table of its own
    o := '{"games": "public.games", "games_id": "id", "games_slug": "slug", "games_name": "name"}'::jsonb || o;
    if not o ? 'type' then
      o := '{"games_type": "type"}'::jsonb || o;
    end if;
  end if;
  return o;
end
$$;
