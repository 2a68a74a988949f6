-- The checks of `attach`. Each function returns a sentence for each problem, so that `attach` reports all problems at once.
-- None of them takes a lock that a writer would wait for.

set local lock_timeout = '2s';

-- Columns that are missing, of another type, or that no trigger can read.
create function datastream.column_problems(relation regclass, options jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with kinds as (
    select '{smallint,integer,bigint,uuid,text,varchar,bpchar}'::regtype[] as game
  ), named as (
    select 'id' as option, c.name, relation as owner, k.game || 'numeric'::regtype as types from kinds k, jsonb_array_elements_text(options->'id') c(name)
    union all
    select 'extras_columns', c.name, relation, null from jsonb_array_elements_text(options->'extras_columns') c(name)
    union all
    select o.key, o.value, case when o.key ~ '^games_' then to_regclass(options->>'games') else relation end,
      case o.key when 'finished_at' then '{timestamptz,timestamp,date,integer,bigint,numeric,"double precision"}'::regtype[]
        when 'extras' then '{jsonb,json,text,varchar}'::regtype[] when 'game_id' then k.game when 'games_id' then k.game end
    from kinds k, jsonb_each_text(options) o
    where o.key in ('finished_at', 'extras', 'game_id', 'slug_column', 'type_column', 'games_id', 'games_slug', 'games_name', 'games_type')
  )
  select case
    when c.name is null then format('column "%s"%s does not exist (columns: %s). Pass one of them as --%s.', n.name,
      case when n.owner <> relation then ' of ' || datastream.qualified(n.owner) else '' end,
      (select string_agg(a.name, ', ' order by a.number) from datastream.columns_of(n.owner) a), replace(n.option, '_', '-'))
    when c.type <> all (n.types) then format('column "%s" is of type %s. Pass a column of type %s as --%s.', n.name, c.type,
      array_to_string(n.types, ', '), replace(n.option, '_', '-'))
    when c.generated = 'v' and n.owner = relation then format('column "%s" is generated and not stored, and no trigger can read it. '
      'Pass the columns that it is made of, or store it.', n.name) end
  from named n left join datastream.columns_of(n.owner) c on c.name = n.name
  where n.owner is not null and (c.name is null or c.type <> all (n.types) or c.generated = 'v' and n.owner = relation)
$$;

-- Options that exclude each other, or that have no meaning together.
create function datastream.option_problems(options jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select problem from (values
    (options ?& '{extras,extras_columns}', 'extras are one column or an object of several. Pass --extras or --extras-columns, not both.'),
    (options ?& '{game_id,game_id_value}', 'the game''s id is in a column or the same for all rounds. Pass --game-id or --game-id-value, not both.'),
    (options ?& '{slug,slug_column}', 'the slug is in a column or the same for all rounds. Pass --slug or --slug-column, not both.'),
    (options ?& '{type,type_column}', 'the type is in a column or the same for all rounds. Pass --type or --type-column, not both.'),
    (options ?& '{type,games_type}', 'the type of the games is in their table, or the same for all. Pass --games-type or --type, not both.'),
    (options ?| '{slug,slug_column}' and options ?| '{games,games_id,games_slug,games_name,games_type}',
      'the game is in a table of games or in the round. Pass --games with its columns, or --slug or --slug-column, not both.'),
    (options ?| '{slug,slug_column}' and not options ?| '{type,type_column}', 'the game has no type. Pass --type or --type-column.'),
    (options ? 'type_column' and not options ?| '{slug,slug_column}', 'the type of a game in a table of games is there. Pass --games-type, or --slug-column with --type-column.'),
    (options ? 'game_id_value' and not options ?| '{slug,slug_column}', 'a constant id needs a game of the round. Pass --slug or --slug-column with it.'),
    (not datastream.is_key(coalesce(options->>'game_id_value', '-')), 'the game''s id is empty, longer than 200 bytes, or has control characters. Pass another --game-id-value.'),
    (options->>'id_prefix' !~ '^[A-Za-z0-9_-]{1,32}$', 'a prefix has 1 to 32 letters, digits, _ or -. Pass another --id-prefix.')
  ) as p(is_wrong, problem)
  where is_wrong
$$;

-- Whether it is a table that can have our triggers: no view, foreign or temporary table.
create function datastream.is_table(relation regclass) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select from pg_class c where c.oid = relation and c.relkind in ('r', 'p') and c.relpersistence <> 't') $$;

-- Kinds of tables on which triggers miss rounds.
create function datastream.table_problems(relation regclass) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'it is not a table. Pass a table or a partitioned table as --table.' where not datastream.is_table(relation)
  union all
  (select format('%s has tables that inherit from it, as %s: what is written to those fires no trigger of it. Attach each of them instead.',
    datastream.qualified(relation), datastream.qualified(i.inhrelid))
  from pg_inherits i join pg_class c on c.oid = i.inhparent
  where i.inhparent = relation and c.relkind = 'r' and not datastream.is_hypertable(relation) order by i.inhrelid limit 1)
$$;

-- Whether a unique index shows that no two rounds have the same id. That of a partitioned table has the partition key too; then the
-- id must be one column that a sequence fills, or a uuid.
create function datastream.is_unique(relation regclass, ids text[]) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_index i
    cross join lateral (select array_agg(a.attname::text order by k.place) filter (where k.place <= i.indnkeyatts) as names, count(*) filter (where a.attnum is null) as expressions
      from unnest(i.indkey) with ordinality as k(number, place) left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number and a.attnum > 0) key
    join pg_class c on c.oid = i.indrelid
    where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and key.expressions = 0
      and (key.names <@ ids
        or (c.relkind = 'p' or datastream.is_hypertable(relation)) and cardinality(ids) = 1 and key.names[1] = ids[1] and exists (
          select from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          where a.attrelid = relation and a.attname = ids[1]
            and (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\(' or datastream.column_type(relation, ids[1]) = 'uuid'::regtype))))
$$;

create function datastream.id_problems(relation regclass, options jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with ids as (
    select array(select jsonb_array_elements_text(options->'id')) as names
  ), columns as (
    select c.* from ids join datastream.columns_of(relation) c on c.name = any (ids.names)
  )
  select format('column "%s" may be null, and a round without an id cannot be named. Run: alter table %s alter column %I set not null;', c.name, datastream.qualified(relation), c.name)
  from columns c where not c.required and datastream.is_table(relation)
  union all
  select format('column "%s" is named twice. Pass it once as --id.', i.name) from ids cross join lateral unnest(ids.names) i(name) group by i.name having count(*) > 1
  union all
  select format('of several columns at most one may be text, or two rounds could get the same id (%s). Pass other columns as --id.', string_agg(format('"%s"', c.name), ', ' order by c.number))
  from columns c where datastream.id_kind(c.type) = 'text' having count(*) > 1
  union all
  select format('no unique index covers %s (valid, immediate, not partial, over columns), so two rounds may have the same id. %s',
    array_to_string(array(select format('"%s"', n) from unnest(ids.names) n), ', '),
    coalesce((select format('Pass --id %s.', k.names) from (
        select i.indisprimary, string_agg(a.attname, ',' order by array_position(i.indkey::smallint[], a.attnum)) as names, bool_and(datastream.id_kind(c.type) is not null and c.required) as fits
        from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) join datastream.columns_of(relation) c on c.name = a.attname
        where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
        group by i.indexrelid, i.indisprimary) k
      where k.fits order by k.indisprimary desc limit 1),
      -- A unique index of a partitioned table has the partition key too, and is not built concurrently.
      (select format('Add a column: alter table %1$s add uid uuid not null default gen_random_uuid(); create unique index on %1$s (uid%2$s); and pass --id uid.',
          datastream.qualified(relation), (select string_agg(format(', %I', a.attname), '' order by k.place)
            from unnest(p.partattrs) with ordinality as k(number, place) join pg_attribute a on a.attrelid = relation and a.attnum = k.number))
        from pg_partitioned_table p where p.partrelid = relation),
      format('Create one: create unique index concurrently on %s (%s);', datastream.qualified(relation),
        array_to_string(array(select format('%I', n) from unnest(ids.names) n), ', '))))
  from ids
  where datastream.is_table(relation) and (select count(*) from columns) = cardinality(ids.names) and not datastream.is_unique(relation, ids.names)
$$;

create function datastream.finished_problems(relation regclass, options jsonb) returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  type regtype := datastream.column_type(relation, options->>'finished_at');
  is_number boolean := type in ('integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'double precision'::regtype);
begin
  if is_number and coalesce(options->>'finished_at_unit', '') not in ('s', 'ms', 'us') then
    return next format('column "%s" is a number. Pass its unit since 1970 as --finished-at-unit: s, ms or us.', options->>'finished_at');
  elsif type in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) and options ? 'finished_at_unit' then
    return next format('column "%s" is of type %s and has no unit. Leave out --finished-at-unit.', options->>'finished_at', type);
  end if;
  if type not in ('timestamp'::regtype, 'date'::regtype) and options ? 'time_zone' then
    return next format('column "%s" is of type %s, which needs no time zone. Leave out --time-zone.', options->>'finished_at', type);
  end if;
  if options ? 'finished_when_problem' then
    return next format('the condition of --finished-when cannot be used: %s. Write an immutable condition over columns of the table.', rtrim(options->>'finished_when_problem', '.'));
  end if;
  if options ? 'finished_when' and coalesce(jsonb_array_length(options->'finished_columns'), 0) = 0 and not options ? 'finished_when_problem' then
    return next 'the condition of --finished-when names no column of the table. Write an immutable condition over its columns.';
  end if;
  return query select format('column "%s" is generated and not stored, and no trigger can read it. Write --finished-when without it.', c.name)
    from datastream.columns_of(relation) c where c.generated = 'v' and options->'finished_columns' ? c.name;
  begin
    perform timezone(options->>'time_zone', timestamp 'epoch');
  exception when others then
    return next format('%s. Pass a name of pg_timezone_names as --time-zone.', sqlerrm);
  end;
end
$$;

create function datastream.game_problems(relation regclass, options jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('there is no table of games %s. Pass it as --games with its columns, or the game as --slug-column or --slug.', options->>'games')
  where options ? 'games' and to_regclass(options->>'games') is null
  union all
  select format('column "%s" is of type %s, and "%s" of %s is of type %s: they cannot be compared. Pass the id that the rounds name as --games-id.',
    options->>'game_id', r.type, options->>'games_id', options->>'games', g.type)
  from (select datastream.column_type(relation, options->>'game_id') as type) r, (select datastream.column_type(to_regclass(options->>'games'), options->>'games_id') as type) g
  where datastream.id_kind(r.type) <> datastream.id_kind(g.type)
$$;

-- A game that the table of games has twice: its rounds would be sent and listed under each slug. If the id has no unique index,
-- this reads the table.
create function datastream.doubled_game(options jsonb) returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  games regclass := to_regclass(options->>'games');
  found_id text;
begin
  if games is null or datastream.is_unique(games, array[options->>'games_id']) then
    return;
  end if;
  execute format('select g.%1$I::pg_catalog.text from %2$s g where g.%1$I is not null and g.%3$I is not null%4$s group by g.%1$I having count(*) > 1 limit 1',
    options->>'games_id', datastream.qualified(games), options->>'games_slug', coalesce(' and g.' || quote_ident(options->>'games_type') || ' is not null', '')) into found_id;
  if found_id is not null then
    return next format('%s has two games with the id %s, so a round of it would be sent twice. Pass a unique column as --games-id, or a view with one row for each game as --games.',
      datastream.qualified(games), found_id);
  end if;
exception when undefined_column or undefined_function then
  return;  -- `column_problems` reports these.
end
$$;

-- Ids of several tables must not be the same on the wire. `others`: the other attached tables.
create function datastream.prefix_problems(relation regclass, options jsonb, others datastream.attached[]) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with one as (
    select relation::oid as oid, null::text as name, options as o
    union all
    select to_regclass(a.relation)::oid, a.relation, a.options from unnest(others) a
  ), ids as (
    select one.name, one.o->>'id_prefix' as prefix, case when one.o ? 'id_prefix' then 'prefixed' when datastream.has_numbers(one.oid, one.o) then 'numbers'
      when jsonb_array_length(one.o->'id') = 1 and datastream.column_type(one.oid, one.o->'id'->>0) = 'uuid'::regtype then 'uuids' else 'bare' end as kind
    from one
  )
  select format('the prefix %s is that of %s. Pass another --id-prefix.', mine.prefix, other.name)
  from ids mine join ids other on mine.name is null and other.name is not null and other.prefix = mine.prefix
  union all
  select format('several tables are attached, and their ids could be the same. Pass a prefix as --id-prefix.')
  from ids mine where mine.name is null and exists (select from ids other where other.name is not null and (mine.kind = 'bare' or mine.kind = 'uuids' and other.kind = 'uuids'))
  union all
  select format('the ids of %s have no prefix, and could be the same. Attach it again with --id-prefix and --replace first.', other.name)
  from ids other where other.name is not null and other.kind = 'bare'
$$;

-- All of them, in the order in which they are best fixed.
create function datastream.attach_problems(relation regclass, options jsonb, others datastream.attached[]) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select * from datastream.table_problems(relation)
  union all select * from datastream.option_problems(options)
  union all select * from datastream.game_problems(relation, options)
  union all select * from datastream.column_problems(relation, options)
  union all select * from datastream.doubled_game(options)
  union all select * from datastream.id_problems(relation, options)
  union all select * from datastream.finished_problems(relation, options)
  union all select * from datastream.prefix_problems(relation, options, others)
$$;

-- What would publish open rounds: a column that is always filled says nothing of a round's end. Null if there is no doubt.
create function datastream.open_rounds(relation regclass, options jsonb) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('column "%s" %s, so that rounds would be published as soon as they are inserted. Pass a condition as --finished-when, or --yes if rows are inserted when a round has finished.',
    c.name, case when c.required then 'is never null' else 'has a default' end)
  from datastream.columns_of(relation) c
  where c.name = options->>'finished_at' and (c.required or c.has_default) and not options ? 'finished_when'
$$;
