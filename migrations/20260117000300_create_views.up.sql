-- The attached tables, their options, and the views and functions that the server reads them by.

set local lock_timeout = '2s';

-- One row for each attached table. `id` is part of the names of its generated functions, view and index.
create table datastream.attached (
  relation text primary key,
  id integer not null unique,
  capture text not null check (capture in ('auto', 'notify', 'poll')),
  options jsonb not null,
  attached_at timestamptz not null default now()
);

-- The full name of a table, quoted if necessary; the search_path has no effect on it.
create function datastream.qualified(relation regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
$$;

-- The type of a column; of a domain, its base type. Raises an error if the column is missing or of another type than `usable`.
create function datastream.column_type(relation regclass, wanted text, usable regtype[] default null) returns regtype
language plpgsql stable
as $$
declare
  found_type regtype;
begin
  with recursive through as (
    select a.atttypid as type from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attname = wanted and a.attnum > 0 and not a.attisdropped
    union all
    select t.typbasetype from through join pg_catalog.pg_type t on t.oid = through.type where t.typbasetype <> 0
  )
  select t.oid into found_type from through join pg_catalog.pg_type t on t.oid = through.type where t.typbasetype = 0;
  if not found then
    raise undefined_column using message = format('%s has no column %I', datastream.qualified(relation), wanted);
  end if;
  if found_type <> all (usable) then
    raise datatype_mismatch using message = format('column %I of %s is of type %s, not one of: %s',
      wanted, datastream.qualified(relation), found_type, array_to_string(usable, ', '));
  end if;
  return found_type;
end
$$;

-- Raises an error if two parameters of `attach` exclude each other, because one of them would have no effect.
create function datastream.refuse_contradictions(given jsonb) returns void
language plpgsql stable
as $$
begin
  if given ?& '{extras,extras_columns}' then
    raise invalid_parameter_value using message = 'extras is one column, or an object of extras_columns: not both';
  elsif given ?& '{game_id,game_id_value}' then
    raise invalid_parameter_value using message = 'the game''s id is in a column (game_id), or one for all rounds (game_id_value): not both';
  elsif given ? 'slug' and not given ?& '{type,game_id_value}' then
    raise invalid_parameter_value using message = 'a constant slug goes with a constant type and game_id_value';
  elsif given ? 'slug_column' and not given ?| '{type,type_column}' then
    raise invalid_parameter_value using message = 'slug_column goes with type_column (or a constant type)';
  elsif given ?& '{slug,slug_column}' or given ?& '{type,type_column}' or given ?& '{slug_column,game_id_value}' then
    raise invalid_parameter_value using message = 'the game is either a constant (slug, type, game_id_value) or in columns (slug_column, type_column, game_id)';
  elsif given ?| '{slug,slug_column}' and given ?| '{games,games_id,games_slug,games_name,games_type}' then
    raise invalid_parameter_value using message = 'the game is in a table of games (games, games_id, games_slug, games_name, games_type), or it is not (slug, slug_column): not both';
  elsif given ? 'type_column' and not given ? 'slug_column' then
    raise invalid_parameter_value using message = 'type_column goes with slug_column: of a game in a table of games the type is there (games_type), or the same for all (type)';
  elsif given ?& '{type,games_type}' then
    raise invalid_parameter_value using message = 'the type of the games is in their table (games_type), or the same for all (type): not both';
  end if;
end
$$;

-- Raises an error if triggers of the table would miss rounds or columns.
create function datastream.refuse_unseen(relation regclass, options jsonb) returns void
language plpgsql stable
as $$
declare
  unseen text;
begin
  if not exists (select from pg_catalog.pg_class c where c.oid = relation and c.relkind in ('r', 'p') and c.relpersistence <> 't') then
    raise wrong_object_type using message = format('%s is not a table that can be attached', datastream.qualified(relation));
  end if;
  select datastream.qualified(i.inhrelid) into unseen from pg_catalog.pg_inherits i
  join pg_catalog.pg_class c on c.oid = i.inhparent
  where i.inhparent = relation and c.relkind = 'r' order by i.inhrelid limit 1;
  if found then
    raise wrong_object_type using message = format('%s has tables that inherit from it, as %s: what is written to those fires no trigger of it; attach each of them instead',
      datastream.qualified(relation), unseen);
  end if;
  select a.attname into unseen from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attgenerated = 'v'
    and (a.attname in (select o.value from jsonb_each_text(options) o where o.key in ('id', 'finished_at', 'extras', 'game_id'))
      or options->'extras_columns' ? a.attname) limit 1;
  if found then
    raise wrong_object_type using message = format('column %I of %s is generated and not stored: triggers cannot read it; name the columns that it is made of, or have it stored',
      unseen, datastream.qualified(relation));
  end if;
end
$$;

-- The parameters of `attach` as datastream.attached keeps them, with defaults filled in. Of the parameters for the game it
-- keeps those that are needed. Raises an error if the parameters are incomplete.
create function datastream.attach_options(relation regclass, given jsonb) returns jsonb
language plpgsql stable
as $$
declare
  integers regtype[] := '{smallint,integer,bigint}';
  o jsonb := '{"id": "id", "finished_at": "finished_at"}'::jsonb || jsonb_strip_nulls(given);
  games regclass;
  wanted text;
begin
  perform datastream.refuse_contradictions(jsonb_strip_nulls(given));
  if not o ? 'extras_columns' then
    o := '{"extras": "extras"}'::jsonb || o;
  end if;
  if not o ? 'game_id_value' then
    o := '{"game_id": "game_id"}'::jsonb || o;
  end if;
  perform datastream.refuse_unseen(relation, o);
  perform datastream.column_type(relation, o->>'id', integers);
  if datastream.column_type(relation, o->>'finished_at', '{timestamptz,timestamp}') = 'timestamp'::regtype then
    o := '{"time_zone": "UTC"}'::jsonb || o;
    perform timezone(o->>'time_zone', timestamp 'epoch');  -- fails now if the time zone is unknown
  elsif o ? 'time_zone' then
    raise invalid_parameter_value using message = format('column %I of %s has a time zone of its own: leave time_zone out', o->>'finished_at', datastream.qualified(relation));
  end if;
  if o ? 'extras' then
    perform datastream.column_type(relation, o->>'extras', '{jsonb,json,text,varchar}');
  end if;
  for wanted in select jsonb_array_elements_text(o->'extras_columns') loop
    perform datastream.column_type(relation, wanted);
  end loop;

  if not o ?| '{slug,slug_column}' then  -- the game is in a table of its own
    o := '{"games": "public.games", "games_id": "id", "games_slug": "slug", "games_name": "name"}'::jsonb || o;
    games := to_regclass(o->>'games');
    if games is null then
      raise undefined_table using message = format('there is no table of games %s', o->>'games'),
        hint = 'Name it by games => (--games), with its columns, or give the game by a column beside the round or by a constant.';
    end if;
    o := o || jsonb_build_object('games', datastream.qualified(games));
    perform datastream.column_type(games, o->>'games_id', integers);
    perform datastream.column_type(games, o->>'games_slug'), datastream.column_type(games, o->>'games_name');
    if not o ? 'type' then
      o := '{"games_type": "type"}'::jsonb || o;
      perform datastream.column_type(games, o->>'games_type');
    end if;
  end if;
  for wanted in select o->>key from unnest('{slug_column,type_column}'::text[]) as key where o ? key loop
    perform datastream.column_type(relation, wanted);
  end loop;
  if o ? 'game_id' then
    perform datastream.column_type(relation, o->>'game_id', integers);
  end if;
  return o;
end
$$;

-- The columns of an attached table as SQL expressions. They read a row named `alias` (the alias of the table or of the
-- transition table, or `new`) and a row `g` of the table of games. All names are qualified, because the trigger functions
-- run under the writer's search_path.
--
-- `payload` is the JSON text of a notification about one round. It is null if the round has no game, or if one column is too
-- large for a notification. (The trigger functions then check the length of the text.)
-- * The writer's settings decide how values are printed (TimeZone, IntervalStyle).
-- * Extras in a text or varchar column become a JSON string. PostgreSQL before 16 cannot check, without an EXCEPTION block,
--   that a text is JSON.
-- * `format` is the fastest: 1.5 us, `concat` 1.8, `json_build_object` 1.9, `||` 2.0.
create function datastream.expressions(relation regclass, options jsonb, alias text,
  out round_id text, out named text, out finished text, out finished_at text, out extras text,
  out game_id text, out game_slug text, out game_type text, out payload text)
language plpgsql stable
as $$
declare
  columns text[] := array(select jsonb_array_elements_text(options->'extras_columns'));
  extras_type regtype;
  value text;   -- of the extras, as the payload prints it
  large text;   -- a condition: a column alone is larger than a notification
begin
  round_id := format('%s.%I', alias, options->>'id');
  -- If the id can be null, a condition leaves out rounds without one: they cannot be named.
  named := case when exists (select from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = options->>'id' and a.attnotnull)
    then '' else format(' and %s is not null', round_id) end;
  -- `finished` is the bare column, for the test; `finished_at` is a timestamptz.
  finished := format('%s.%I', alias, options->>'finished_at');
  finished_at := case datastream.column_type(relation, options->>'finished_at')
    when 'timestamp'::regtype then format('datastream.moment(%L, %s)', options->>'time_zone', finished)
    else finished end;
  -- `extras` is one column, or an object of several. If jsonb may reject a value of one (a type that is made of others, or
  -- an unknown one), the object is built as json, for 3 us more.
  if options ? 'extras_columns' then
    select format(case when bool_or(t.typcategory in ('A', 'C', 'U') and t.oid not in ('jsonb'::regtype, 'uuid'::regtype, 'bytea'::regtype))
        then 'datastream.as_jsonb(pg_catalog.json_build_object(%s))' else 'pg_catalog.jsonb_build_object(%s)::pg_catalog.text' end,
      coalesce(string_agg(format('%L, %s.%I', name, alias, name), ', ' order by ord), ''))
    into extras from jsonb_array_elements_text(options->'extras_columns') with ordinality as c(name, ord)
    left join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = name
    left join pg_catalog.pg_type t on t.oid = a.atttypid;
  else
    extras := format('coalesce(%s.%I::pg_catalog.text, ''{}'')', alias, options->>'extras');
  end if;
  -- The game is in a table of its own, in columns of the round, or the same for all rounds.
  -- (`||` with a null gives null, which `coalesce` skips; `format` does not.)
  game_id := coalesce('(' || (options->>'game_id_value') || ')::bigint', alias || '.' || quote_ident(options->>'game_id'));
  game_slug := coalesce(quote_literal(options->>'slug'), alias || '.' || quote_ident(options->>'slug_column'),
    'g.' || quote_ident(options->>'games_slug')) || '::text';
  game_type := coalesce(quote_literal(options->>'type'), alias || '.' || quote_ident(options->>'type_column'),
    'g.' || quote_ident(options->>'games_type')) || '::text';
  -- json, because jsonb rejects some values, and an error here would undo the outbox row.
  if options ? 'extras_columns' then
    select format('pg_catalog.json_build_object(%s)', coalesce(string_agg(format('%L, %s.%I', c.name, alias, c.name), ', ' order by c.ord), ''))
    into value from unnest(columns) with ordinality as c(name, ord);
  else
    extras_type := datastream.column_type(relation, options->>'extras');
    value := format(case when extras_type in ('json', 'jsonb') then 'coalesce(%s.%I, ''{}'')' else 'coalesce(pg_catalog.to_json(%s.%I::pg_catalog.text)::pg_catalog.text, ''{}'')' end,
      alias, options->>'extras');
    columns := array[options->>'extras'];
  end if;
  -- PostgreSQL knows the stored size without reading the value. jsonb takes up to four times the bytes of its text: [1, 1, ...].
  select string_agg(format('pg_catalog.pg_column_size(%s.%I) operator(pg_catalog.>) %s or ', alias, a.attname,
      case when datastream.column_type(relation, a.attname) = 'jsonb'::regtype then 32768 else 7904 end), '' order by a.attnum)
  into large from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attname = any (columns) and not a.attisdropped and a.attlen = -1 and a.atttypid <> 'numeric'::regtype;
  payload := format($sql$case when %5$s%2$s is null then null else pg_catalog.format('{"round_id":%%s,"game_id":%%s,"finished_at":%%s,"extras":%%s}',
          %1$s, %2$s, coalesce(pg_catalog.to_json(%3$s)::pg_catalog.text, 'null'), %4$s) end$sql$,
    round_id, game_id, finished_at, value, coalesce(large, ''));
end
$$;

-- The view of one attached table, `datastream.rounds_<id>`: the columns that the server reads, finished rounds only.
-- Keys keep the table's type, because a cast would keep PostgreSQL from using the table's index.
create function datastream.view_sql(t datastream.attached) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
begin
  return format('create view datastream.rounds_%s as select %s as round_id, %s as game_id, %s as game_slug, %s as game_type, '
      '%s as finished_at, %s as extras from %s r', t.id, e.round_id, e.game_id, e.game_slug, e.game_type, e.finished_at, e.extras, t.relation)
    || case when t.options ? 'games' then format(' join %s g on g.%I = %s', t.options->>'games', t.options->>'games_id', e.game_id) else '' end
    || format(' where datastream.is_finished(%s)%s', e.finished, e.named)
    -- Nobody can subscribe to a game without an id, a slug or a type.
    || case when t.options ? 'slug' then '' else format(' and %s is not null and %s is not null and %s is not null', e.game_id, e.game_slug, e.game_type) end;
end
$$;

-- The part of `datastream.games` for one attached table. If the game is in columns of the round, the games are those with a
-- finished round. A recursive query then reads one entry of the seed index for each game; `select distinct` would read
-- the whole table.
create function datastream.games_sql(t datastream.attached) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
  latest text := format('select game_id, game_slug, game_type from datastream.rounds_%s', t.id);
  first_of text := ' order by game_id, finished_at desc, round_id desc limit 1';
begin
  if t.options ? 'games' then
    return format('select g.%1$I::bigint as id, %2$s as slug, coalesce(g.%3$I::text, %2$s) as name, %4$s as type from %5$s g '
      'where g.%1$I is not null and %2$s is not null and %4$s is not null',
      t.options->>'games_id', e.game_slug, t.options->>'games_name', e.game_type, t.options->>'games');
  elsif t.options ? 'slug' then
    return format('select %1$s as id, %2$s as slug, %2$s as name, %3$s as type', e.game_id, e.game_slug, e.game_type);
  end if;
  return format('select game_id::bigint as id, game_slug as slug, game_slug as name, game_type as type from ('
    'with recursive game as ((%1$s%2$s) union all select n.* from game cross join lateral (%1$s where game_id > game.game_id%2$s) n) '
    'select * from game) as beside', latest, first_of);
end
$$;

-- The statements that make the views `games` and `finished_rounds` over these tables, and two functions for the reads that
-- must be fast. Each function queries every table with its own types and LIMIT. Over a plain UNION ALL the planner reads
-- all rounds of a game to find the latest (26 games in 200,000 rounds: 610 ms against 0.5 ms).
create function datastream.reads_sql(tables datastream.attached[]) returns setof text
language plpgsql stable
as $$
declare
  columns text := 'r.round_id::bigint as round_id, r.game_id::bigint as game_id, r.game_slug collate "default" as game_slug, '
    'r.game_type collate "default" as game_type, r.finished_at::timestamptz as finished_at, r.extras collate "default" as extras';
  nothing text := 'select null::bigint as round_id, null::bigint as game_id, null::text as game_slug, null::text as game_type, '
    'null::timestamptz as finished_at, null::text as extras where false';
  returned text := 'returns table (round_id bigint, game_id bigint, game_slug text, game_type text, finished_at timestamptz, extras text) language sql stable';
  joint text := E'\n  union all ';
  branches text[] := array(select format('select %s from datastream.rounds_%s r', columns, t.id) from unnest(tables) t order by t.id);
begin
  return next 'create or replace view datastream.games as '
    || coalesce((select string_agg(format('select g.id, g.slug collate "default" as slug, g.name collate "default" as name, g.type collate "default" as type from (%s) g', sql), joint)
        from (select distinct datastream.games_sql(t) as sql from unnest(tables) t) as once),
      'select null::bigint as id, null::text as slug, null::text as name, null::text as type where false');
  return next 'create or replace view datastream.finished_rounds as ' || coalesce(nullif(array_to_string(branches, joint), ''), nothing);
  -- The finished rounds with these ids, found by each table's key.
  return next format(E'create or replace function datastream.rounds_by_id(ids bigint[]) %s as $datastream$\n  %s\n$datastream$', returned,
    coalesce((select string_agg(b || ' where r.round_id = any (ids)', joint) from unnest(branches) b), nothing));
  -- At most `most` rounds of a game, newest first, from before (newest, newest_id) back to `oldest`, by the seed index.
  return next format(E'create or replace function datastream.rounds_of(game bigint, newest timestamptz, newest_id bigint, oldest timestamptz, most bigint) '
    '%s as $datastream$\n  select * from (%s) r order by r.finished_at desc, r.round_id desc limit most\n$datastream$', returned,
    coalesce((select string_agg('(' || b || ' where r.game_id = game and r.finished_at >= oldest and (r.finished_at, r.round_id) < (newest, newest_id)'
      ' order by r.finished_at desc, r.round_id desc limit most)', joint) from unnest(branches) b), nothing));
end
$$;

-- Makes them over no table yet.
do $$
declare
  statement text;
begin
  for statement in select * from datastream.reads_sql('{}') loop
    execute statement;
  end loop;
end
$$;

-- The functions read with the caller's rights; the views that they read use their owner's.
grant execute on function datastream.rounds_by_id(bigint[]),
  datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint) to public;
