-- Attaching: from a game's own table to the outbox and to the views the server reads.
-- Everything that runs at a game's write is generated once, here, as static code.

set local lock_timeout = '2s';

-- What is attached, and how. `id` names the generated functions and the index.
create table datastream.attached (
  relation text primary key,
  id integer not null unique,
  capture text not null check (capture in ('auto', 'notify', 'poll')),
  options jsonb not null,
  attached_at timestamptz not null default now()
);

-- A table's full name, quoted where it must be, whatever the search_path.
create function datastream.qualified(relation regclass) returns text
language sql stable
as $$
  select format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
$$;

-- The type of a column, through domains; an error where the column is missing or of no usable type.
create function datastream.column_type(relation regclass, wanted text, usable regtype[] default null) returns regtype
language plpgsql stable
as $$
declare
  found_type regtype;
begin
  select coalesce(nullif(t.typbasetype, 0), t.oid)::regtype into found_type
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = relation and a.attname = wanted and a.attnum > 0 and not a.attisdropped;
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

-- How an attached table's columns are written in SQL: expressions over a row named `alias`
-- (a table's alias, a transition table's, or `new`), and over a row `g` of the table of games. All names
-- are qualified: the trigger functions evaluate them under the search_path of whoever writes a round.
-- `payload` is what a notification says about one round; null (ring: look into the outbox) where the
-- round has no game, no moment that can be printed, or extras beyond what a notification can hold. (JSON
-- only grows by quoting, so their length alone decides for large ones; the triggers look at the whole.)
create function datastream.expressions(relation regclass, options jsonb, alias text,
  out round_id text, out finished text, out finished_at text, out extras text,
  out game_id text, out game_slug text, out game_type text, out payload text)
language plpgsql stable
as $$
begin
  round_id := format('%s.%I', alias, options->>'id');
  -- The bare column says whether a round is finished; the other is its moment with a time zone.
  finished := format('%s.%I', alias, options->>'finished_at');
  finished_at := case datastream.column_type(relation, options->>'finished_at')
    when 'timestamp'::regtype then format('pg_catalog.timezone(%L, %s)', options->>'time_zone', finished)
    else finished end;
  -- `extras` as one column, or built from several.
  if options ? 'extras_columns' then
    select format('pg_catalog.jsonb_build_object(%s)::pg_catalog.text', coalesce(string_agg(format('%L, %s.%I', name, alias, name), ', ' order by ord), ''))
    into extras from jsonb_array_elements_text(options->'extras_columns') with ordinality as c(name, ord);
  else
    extras := format('coalesce(%s.%I::pg_catalog.text, ''{}'')', alias, options->>'extras');
  end if;
  -- The game: in a table of its own, in columns beside the round, or the same for all rounds.
  -- (`||` with null is null, `format` with null is not.)
  game_id := coalesce((options->>'game_id_value') || '::bigint', alias || '.' || quote_ident(options->>'game_id'));
  game_slug := coalesce(quote_literal(options->>'slug'), alias || '.' || quote_ident(options->>'slug_column'),
    'g.' || quote_ident(options->>'games_slug')) || '::text';
  game_type := coalesce(quote_literal(options->>'type'), alias || '.' || quote_ident(options->>'type_column'),
    'g.' || quote_ident(options->>'games_type')) || '::text';
  payload := format($sql$case when pg_catalog.octet_length(%4$s) operator(pg_catalog.<=) 7900 then
            pg_catalog.concat('{"xid":"', pg_catalog.pg_current_xact_id(), '","snap":"', pg_catalog.pg_current_snapshot(), '","round_id":', %1$s)
            operator(pg_catalog.||) ',"game_id":' operator(pg_catalog.||) %2$s::pg_catalog.text
            operator(pg_catalog.||) ',"finished_at":' operator(pg_catalog.||) datastream.micros(%3$s)::pg_catalog.text
            operator(pg_catalog.||) ',"extras":' operator(pg_catalog.||) pg_catalog.to_json(%4$s)::pg_catalog.text operator(pg_catalog.||) '}' end$sql$,
    round_id, game_id, finished_at, extras);
end
$$;

-- The view over one attached table, `datastream.rounds_<id>`: the contract's columns, finished rounds
-- only. Keys keep the table's own type: an `integer` is found through the table's index only bare.
create function datastream.view_sql(t datastream.attached) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
begin
  return format('create view datastream.rounds_%s as select %s as round_id, %s as game_id, %s as game_slug, %s as game_type, '
      '%s as finished_at, %s as extras from %s r', t.id, e.round_id, e.game_id, e.game_slug, e.game_type, e.finished_at, e.extras, t.relation)
    || case when t.options ? 'games' then format(' join %s g on g.%I = %s', t.options->>'games', t.options->>'games_id', e.game_id) else '' end
    || format(' where datastream.is_finished(%s)', e.finished)
    -- A game without a slug or a type cannot be subscribed to.
    || case when t.options ? 'slug' then '' else format(' and %s is not null and %s is not null', e.game_slug, e.game_type) end;
end
$$;

-- One attached table's part of `datastream.games`. Where the game is in columns beside the round, its
-- games are those that have finished one, read by jumping from game to game through the seed index
-- (`select distinct` would read the whole table at each look).
create function datastream.games_sql(t datastream.attached) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
  latest text := format('select game_id, game_slug, game_type from datastream.rounds_%s', t.id);
  first_of text := ' order by game_id, finished_at desc, round_id desc limit 1';
begin
  if t.options ? 'games' then
    return format('select g.%1$I::bigint as id, %2$s as slug, coalesce(g.%3$I::text, %2$s) as name, %4$s as type from %5$s g where %2$s is not null and %4$s is not null',
      t.options->>'games_id', e.game_slug, t.options->>'games_name', e.game_type, t.options->>'games');
  elsif t.options ? 'slug' then
    return format('select %1$s as id, %2$s as slug, %2$s as name, %3$s as type', e.game_id, e.game_slug, e.game_type);
  end if;
  return format('select game_id::bigint as id, game_slug as slug, game_slug as name, game_type as type from ('
    'with recursive game as ((%1$s%2$s) union all select n.* from game cross join lateral (%1$s where game_id > game.game_id%2$s) n) '
    'select * from game) as beside', latest, first_of);
end
$$;

-- The statements that make what the server reads, over these tables: the views `games` and
-- `finished_rounds`, and two functions for the reads that must be fast. The functions ask each table
-- apart, with its own types and its own LIMIT: over a UNION ALL the planner reads all of a game's
-- rounds to find the latest (610 ms against 0.5 ms for 26 games in 200,000 rounds).
create function datastream.reads_sql(tables datastream.attached[]) returns setof text
language plpgsql stable
as $$
declare
  columns text := 'r.round_id::bigint as round_id, r.game_id::bigint as game_id, r.game_slug, r.game_type, r.finished_at, r.extras';
  nothing text := 'select null::bigint as round_id, null::bigint as game_id, null::text as game_slug, null::text as game_type, '
    'null::timestamptz as finished_at, null::text as extras where false';
  returned text := 'returns table (round_id bigint, game_id bigint, game_slug text, game_type text, finished_at timestamptz, extras text) language sql stable';
  joint text := E'\n  union all ';
  branches text[] := array(select format('select %s from datastream.rounds_%s r', columns, t.id) from unnest(tables) t order by t.id);
begin
  return next 'create or replace view datastream.games as '
    || coalesce((select string_agg(g, joint) from (select distinct datastream.games_sql(t) as g from unnest(tables) t) as once),
      'select null::bigint as id, null::text as slug, null::text as name, null::text as type where false');
  return next 'create or replace view datastream.finished_rounds as ' || coalesce(nullif(array_to_string(branches, joint), ''), nothing);
  -- The finished rounds of these ids, through each table's key.
  return next format(E'create or replace function datastream.rounds_by_id(ids bigint[]) %s as $datastream$\n  %s\n$datastream$', returned,
    coalesce((select string_agg(b || ' where r.round_id = any (ids)', joint) from unnest(branches) b), nothing));
  -- The rounds of a game by age: from below (newest, newest_id) down to `oldest`, at most `most`, through the seed index.
  return next format(E'create or replace function datastream.rounds_of(game bigint, newest timestamptz, newest_id bigint, oldest timestamptz, most bigint) '
    '%s as $datastream$\n  select * from (%s) r order by r.finished_at desc, r.round_id desc limit most\n$datastream$', returned,
    coalesce((select string_agg('(' || b || ' where r.game_id = game and r.finished_at >= oldest and (r.finished_at, r.round_id) < (newest, newest_id)'
      ' order by r.finished_at desc, r.round_id desc limit most)', joint) from unnest(branches) b), nothing));
end
$$;

-- The trigger function for INSERT on an ordinary table: once a statement, over its new rows.
-- * One EXCEPTION block around all of it: what fails here (a missing outbox, a renamed column) costs
--   a warning and a later reconciliation, never the game's write. One block a statement, not one a
--   row: each block that writes takes a transaction id.
-- * It reads nothing but the new rows: a look at another table could fail a SERIALIZABLE insert.
-- * The outbox first, then the bell: who hears the bell finds the row.
-- * `auto` rings only if no other transaction is ringing; NOTIFY makes commits queue (measured: 64
--   writers with a 5 ms flush do 10,013 inserts/s this way, 174 when all of them notify).
-- * In `auto` only the first statement of a transaction sends its round, whether or not it could ring:
--   a payload goes out at once, and would overtake what an earlier statement had recorded silently.
-- * It does not ask ON CONFLICT, which was half of what a row cost (3.0 against 1.4 us of processor time):
--   the outbox has no row of this transaction and round, unless an id comes twice, in a table without a
--   key or finished again. Then it is done over.
-- * `datastream.recorded` is on from then to the end of the transaction, or to the rollback of the savepoint
--   that it was set in.
-- * What a transaction pays here is mostly for expressions made anew, up to 1 us each, and for queries, which
--   PERFORM is too, 3 us; so there are few of them: payloads have no function of their own (9 us), and the
--   mode is written into the function (as an argument of the trigger it took 3 us).
-- * No `set search_path`, 5 us: every name is qualified instead, operators and types too, so that nothing
--   is looked up where the writer says. (CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely".)
-- All in all a round that does not ring costs its writer 12 us of processor time, beside the INSERT's 15.
create function datastream.insert_function_sql(relation regclass, options jsonb, function_name text, capture text) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(relation, options, 'r');
  ring text := case capture
    when 'poll' then $sql$
      return null;$sql$
    when 'notify' then format($sql$
      perform pg_catalog.pg_notify('datastream_rounds', case when pg_catalog.octet_length(p.body) operator(pg_catalog.<=) 7900 then p.body end)
      from (select %2$s as body from new_rounds r where %1$s is not null offset 0) p;$sql$, e.finished, e.payload)
    else format($sql$
      if pg_catalog.pg_try_advisory_xact_lock(7264, 1) then
        if finished operator(pg_catalog.=) 1 and coalesce(pg_catalog.current_setting('datastream.recorded', true), '') operator(pg_catalog.<>) 'on' then
          select %2$s into body from new_rounds r where %1$s is not null;
          if pg_catalog.octet_length(body) operator(pg_catalog.>) 7900 then
            body := null;
          end if;
        end if;
        done := pg_catalog.pg_notify('datastream_rounds', body);
      end if;$sql$, e.finished, e.payload) end;
begin
  return format($sql$create or replace function datastream.%1$I() returns trigger
language plpgsql security definer
as $datastream$
declare
  finished bigint;
  again boolean := false;
  body pg_catalog.text;
  done pg_catalog.text;
begin
  if pg_catalog.current_setting('datastream.skip', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  loop
    begin
      if again then
        insert into datastream.outbox (round_id) select %2$s from new_rounds r where %3$s is not null on conflict do nothing;
      else
        insert into datastream.outbox (round_id) select %2$s from new_rounds r where %3$s is not null;
      end if;
      get diagnostics finished = row_count;
      if finished operator(pg_catalog.=) 0 then
        return null;
      end if;%4$s
      exit;
    exception when others then
      if again or sqlstate operator(pg_catalog.<>) '23505' then
        raise warning 'datastream: finished rounds of %% were not announced: %%', pg_catalog.format('%%I.%%I', tg_table_schema, tg_table_name), sqlerrm
          using hint = 'They will be found within a minute by the server. See: datastream doctor.';
        return null;
      end if;
      again := true;
    end;
  end loop;
  done := pg_catalog.set_config('datastream.recorded', 'on', true);
  return null;
end
$datastream$
$sql$, function_name, e.round_id, e.finished, ring);
end
$$;

-- The trigger function for one row: UPDATE anywhere, and INSERT into partitioned tables (a statement
-- trigger on the parent misses what is inserted straight into a partition).
-- * What reads the row, and the first outbox row of a transaction, are in the EXCEPTION block: an
--   outbox that is missing or refuses rows costs a warning, never the game's write. Once it has taken
--   one, the transaction's further rows go in without a block: a block around each took a
--   transaction id a row (10,000 rows by one UPDATE: 423-652 ms against 214-339 ms), and beyond 64 of
--   those in a transaction every snapshot of the whole cluster has to look them up.
-- * In `auto` the first round of a transaction rings with its payload, further ones with none (which
--   PostgreSQL folds into one notification): 10,000 rounds finished by one UPDATE are one poll. They
--   do so where the first found another transaction ringing, too, for the sake of order (see above).
-- * Expressions, queries and names as above.
create function datastream.row_function_sql(relation regclass, options jsonb, function_name text, capture text) returns text
language plpgsql stable
as $$
declare
  e record := datastream.expressions(relation, options, 'new');
  sends text := case capture when 'auto' then 'not proved' when 'notify' then 'true' end;
  rings text := case capture when 'auto' then 'recorded and pg_catalog.pg_try_advisory_xact_lock(7264, 1)' when 'notify' then 'recorded' end;
  say text := format($sql$
    if %s then
      body := %s;
      if pg_catalog.octet_length(body) operator(pg_catalog.>) 7900 then
        body := null;
      end if;
    end if;$sql$, sends, e.payload);
  ring text := format($sql$
  if %s then
    done := pg_catalog.pg_notify('datastream_rounds', body);
  end if;$sql$, rings);
begin
  return format($sql$create or replace function datastream.%1$I() returns trigger
language plpgsql security definer
as $datastream$
declare
  proved boolean := false;
  recorded boolean := false;
  round bigint not null := 0;
  body pg_catalog.text;
  done pg_catalog.text;
begin
  if pg_catalog.current_setting('datastream.skip', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  begin
    round := %2$s;
    proved := coalesce(pg_catalog.current_setting('datastream.recorded', true) operator(pg_catalog.=) 'on', false);%3$s
    if not proved then
      insert into datastream.outbox (round_id) values (round) on conflict do nothing;
      recorded := found;
    end if;
  exception when others then
    raise warning 'datastream: a finished round of %% was not announced: %%', pg_catalog.format('%%I.%%I', tg_table_schema, tg_table_name), sqlerrm
      using hint = 'It will be found within a minute by the server. See: datastream doctor.';
    return null;
  end;
  if proved then
    insert into datastream.outbox (round_id) values (round) on conflict do nothing;
    recorded := found;
  else
    done := pg_catalog.set_config('datastream.recorded', 'on', true);
  end if;%4$s
  return null;
end
$datastream$
$sql$, function_name, e.round_id,
    case when capture <> 'poll' then say else '' end, case when capture <> 'poll' then ring else '' end);
end
$$;

-- The triggers' kinds depend on the table's: see the two functions above.
create function datastream.by_row(relation regclass) returns boolean
language sql stable
as $$ select c.relkind = 'p' or c.relispartition from pg_catalog.pg_class c where c.oid = relation $$;

-- Whether a logical subscription writes the table, or a partition of it. It fires triggers for rows only, not those for
-- statements, and of them only what is enabled ALWAYS.
create function datastream.is_subscribed(relation regclass) returns boolean
language sql stable
as $$
  select exists (select from pg_catalog.pg_subscription_rel s
    where s.srrelid = relation or s.srrelid in (select p.relid from pg_partition_tree(relation) p))
$$;

-- Whether our two triggers are on a table, of the kinds that it needs.
create function datastream.has_triggers(relation regclass) returns boolean
language sql stable
as $$
  select 2 = (select count(*) from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated')
      and (not datastream.is_subscribed(relation) or (t.tgenabled = 'A' and t.tgtype & 1 = 1)))
$$;

-- The statements that put our functions and triggers on a table. The triggers come last: their lock
-- (SHARE ROW EXCLUSIVE) makes writers wait, so it is held for as short as can be. No column list on
-- UPDATE: it would miss a BEFORE trigger that sets the column.
create function datastream.triggers_sql(relation regclass, options jsonb, id integer, capture text) returns setof text
language plpgsql stable
as $$
declare
  table_name text := datastream.qualified(relation);
  finished text := format('%I', options->>'finished_at');
  by_row boolean := datastream.by_row(relation) or datastream.is_subscribed(relation);
  always boolean := datastream.is_subscribed(relation) or exists (select from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled = 'A');
  name text;
begin
  return next case when by_row then datastream.row_function_sql(relation, options, format('inserted_%s', id), capture)
    else datastream.insert_function_sql(relation, options, format('inserted_%s', id), capture) end;
  return next datastream.row_function_sql(relation, options, format('updated_%s', id), capture);
  for name in select t.tgname from pg_catalog.pg_trigger t
      where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated') order by 1 loop
    return next format('drop trigger %I on %s', name, table_name);
  end loop;
  return next case when by_row then
    format('create trigger datastream_inserted after insert on %s for each row when (new.%s is not null) '
      'execute function datastream.inserted_%s()', table_name, finished, id)
  else
    format('create trigger datastream_inserted after insert on %s referencing new table as new_rounds '
      'for each statement execute function datastream.inserted_%s()', table_name, id) end;
  return next format('create trigger datastream_updated after update on %s for each row '
    'when (old.%2$s is null and new.%2$s is not null) execute function datastream.updated_%3$s()',
    table_name, finished, id);
  if always then
    for name in select unnest('{datastream_inserted,datastream_updated}'::text[]) loop
      return next format('alter table %s enable always trigger %I', table_name, name);
    end loop;
  end if;
end
$$;

-- Whether an attached table, and its table of games, are still what our view reads, by the names that they were
-- attached by: neither renamed, nor dropped, nor another table of that name; nor the columns that `games_sql` names.
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

-- The attached tables but this one, as far as they can be read; a notice for each that cannot.
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

-- The statements that take what is ours off any table that was attached by this number, whatever it is called now,
-- but for `kept`. By what depends on our functions: a name says nothing after a rename. A partition's trigger and
-- index fall with the parent's.
create function datastream.remains_sql(number integer, kept regclass default null) returns setof text
language sql stable
as $$
  select format('drop trigger %I on %s', t.tgname, datastream.qualified(t.tgrelid)) from pg_catalog.pg_trigger t
  where t.tgfoid in (to_regprocedure(format('datastream.inserted_%s()', number)), to_regprocedure(format('datastream.updated_%s()', number)))
    and t.tgparentid = 0 and t.tgrelid is distinct from kept
  union all
  select format('drop index %s', datastream.qualified(i.indexrelid)) from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
  where c.relname ~ format('^datastream_latest_%s(_\d+)?$', number) and not c.relispartition
    and i.indrelid not in (select kept::oid where kept is not null union all select p.relid from pg_partition_tree(kept) p)
    and exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
      and d.refclassid = 'pg_proc'::regclass and d.refobjid = 'datastream.is_finished(anyelement)'::regprocedure)
$$;

-- What `attach` was told, as it is kept: names that were not given become the defaults, and only what
-- the way of finding the game needs stays. An error where the parts do not make a whole.
create function datastream.attach_options(relation regclass, given jsonb) returns jsonb
language plpgsql stable
as $$
declare
  integers regtype[] := '{smallint,integer,bigint}';
  o jsonb := jsonb_build_object('id', 'id', 'finished_at', 'finished_at', 'time_zone', 'UTC') || jsonb_strip_nulls(given);
  games regclass;
  wanted text;
begin
  if not exists (select from pg_catalog.pg_class c where c.oid = relation and c.relkind in ('r', 'p') and c.relpersistence <> 't') then
    raise wrong_object_type using message = format('%s is not a table that can be attached', datastream.qualified(relation));
  end if;
  perform datastream.column_type(relation, o->>'id', integers);
  if datastream.column_type(relation, o->>'finished_at', '{timestamptz,timestamp}') = 'timestamptz'::regtype then
    o := o - 'time_zone';
  else
    perform timezone(o->>'time_zone', timestamp 'epoch');  -- an unknown time zone is told now
  end if;
  if o ? 'extras_columns' then
    o := o - 'extras';
    for wanted in select jsonb_array_elements_text(o->'extras_columns') loop
      perform datastream.column_type(relation, wanted);
    end loop;
  else
    o := jsonb_build_object('extras', 'extras') || o;
    perform datastream.column_type(relation, o->>'extras', '{jsonb,json,text,varchar}');
  end if;

  if o ? 'slug' or o ? 'slug_column' then  -- the game is a constant, or in columns beside the round
    o := o - '{games,games_id,games_slug,games_name,games_type}'::text[];
    if o ? 'slug' and not (o ? 'type' and o ? 'game_id_value') then
      raise invalid_parameter_value using message = 'a constant slug goes with a constant type and game_id_value';
    elsif o ? 'slug_column' and not (o ? 'type' or o ? 'type_column') then
      raise invalid_parameter_value using message = 'slug_column goes with type_column (or a constant type)';
    elsif o ?& '{slug,slug_column}' or o ?& '{type,type_column}' or (o ? 'slug_column' and o ? 'game_id_value') then
      raise invalid_parameter_value using message = 'the game is either a constant (slug, type, game_id_value) or in columns (slug_column, type_column, game_id)';
    end if;
  else
    o := '{"games": "public.games", "games_id": "id", "games_slug": "slug", "games_name": "name", "games_type": "type"}'::jsonb || o;
    games := to_regclass(o->>'games');
    if games is null then
      raise undefined_table using message = format('there is no table of games %s', o->>'games');
    end if;
    o := o || jsonb_build_object('games', datastream.qualified(games)) - '{slug_column,type_column}'::text[];
    perform datastream.column_type(games, o->>'games_id', integers);
    perform datastream.column_type(games, o->>'games_slug'), datastream.column_type(games, o->>'games_name');
    if o ? 'type' then o := o - 'games_type'; else perform datastream.column_type(games, o->>'games_type'); end if;
  end if;
  for wanted in select o->>key from unnest('{slug_column,type_column}'::text[]) as key where o ? key loop
    perform datastream.column_type(relation, wanted);
  end loop;
  if o ? 'game_id_value' then
    o := o - 'game_id';
  else
    o := jsonb_build_object('game_id', 'game_id') || o;
    perform datastream.column_type(relation, o->>'game_id', integers);
  end if;
  return o;
end
$$;

-- After NOTIFY a transaction cannot be prepared: where two-phase commit is on, `auto` stays silent.
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

-- Attaches a table. Returns the statements it ran, or with `dry_run` would have run; none where the
-- table is attached in just this way already. Null means the default. Rounds and games of several
-- attached tables are told apart by their ids alone, which therefore must not overlap.
create function datastream.attach(
  relation regclass,
  id text default null,               -- the round's key: an integer column, 'id'
  finished_at text default null,      -- 'finished_at'
  extras text default null,           -- a jsonb, json or text column, 'extras'
  extras_columns text[] default null, -- or the columns of which to make an object
  game_id text default null,          -- 'game_id'
  game_id_value bigint default null,  -- or the one game's id
  games regclass default null,        -- the table of games, public.games
  games_id text default null, games_slug text default null, games_name text default null, games_type text default null,
  slug_column text default null, type_column text default null,  -- or columns beside the round
  slug text default null, type text default null,                -- or constants
  time_zone text default null,        -- of a finished_at without one, 'UTC'
  capture text default null,          -- auto, notify or poll; as it is when attached again, 'auto' at first
  replace boolean default null,       -- whether to change what is attached in another way
  dry_run boolean default null
) returns setof text
language plpgsql
set lock_timeout = '2s'
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
  if old.relation = table_name and old.options = options and old.capture = mode and datastream.has_triggers(attach.relation) then
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

-- Takes our triggers, functions and indexes off a table and the table out of the views. A table that
-- was renamed, or is gone, goes by its full name as it stands in datastream.attached, or by its new one.
-- Returns what it ran.
create function datastream.detach(relation text, dry_run boolean default null) returns setof text
language plpgsql
set lock_timeout = '2s'
as $$
declare
  attached_to regclass := to_regclass(detach.relation);
  table_name text := coalesce(datastream.qualified(attached_to), detach.relation);
  number integer;
  statement text;
begin
  lock table datastream.attached in share row exclusive mode;
  select a.id into number from datastream.attached a
  where a.relation = table_name or exists (select from pg_catalog.pg_trigger t
    where t.tgrelid = attached_to and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)))
  order by a.relation = table_name desc limit 1;
  if not found then
    raise undefined_object using message = format('%s is not attached', table_name);
  end if;
  for statement in
    select * from datastream.reads_sql(datastream.others(number))
    union all select format('drop view if exists datastream.rounds_%s', number)
    union all select * from datastream.remains_sql(number)
    union all select format('drop function if exists datastream.inserted_%s()', number)
    union all select format('drop function if exists datastream.updated_%s()', number)
    union all select format('delete from datastream.attached where id = %s', number)
  loop
    if detach.dry_run is not true then
      execute statement;
    end if;
    return next statement;
  end loop;
end
$$;

-- The statements that build the index by which the latest round of a game is found, CONCURRENTLY (each
-- on its own, outside a transaction), or not, for a table that is empty. A partitioned table's index is
-- made partition by partition: it cannot be built concurrently as a whole.
create function datastream.index_sql(relation regclass, online boolean default true) returns setof text
language plpgsql stable
as $$
declare
  a datastream.attached;
  definition text;
  part record;
  made jsonb := '{}';
  verb text := case when online then 'create index concurrently if not exists' else 'create index if not exists' end;
begin
  select * into a from datastream.attached t where t.relation = datastream.qualified(index_sql.relation);
  if not found then
    raise undefined_object using message = format('%s is not attached', datastream.qualified(index_sql.relation));
  end if;
  definition := format('(%s(%s) desc, %I desc) where datastream.is_finished(%I)',
    case when a.options ? 'game_id' then format('%I, ', a.options->>'game_id') end,
    case when a.options ? 'time_zone' then format('timezone(%L, %I)', a.options->>'time_zone', a.options->>'finished_at')
         else format('%I', a.options->>'finished_at') end,
    a.options->>'id', a.options->>'finished_at');
  if not online or not datastream.by_row(index_sql.relation) then
    return next format('%s datastream_latest_%s on %s %s', verb, a.id, datastream.qualified(index_sql.relation), definition);
    return;
  end if;
  for part in
    select p.relid, p.parentrelid, p.isleaf, p.level,
           format('datastream_latest_%s_%s', a.id, row_number() over (order by p.level, p.relid)) as name,
           (select c.relnamespace::regnamespace from pg_catalog.pg_class c where c.oid = p.relid) as schema_name
    from pg_partition_tree(index_sql.relation) p order by p.level, p.relid
  loop
    return next format('%s %s on %s%s %s', case when part.isleaf then verb else 'create index if not exists' end, part.name,
      case when part.isleaf then '' else 'only ' end, datastream.qualified(part.relid), definition);
    if part.level > 0 then
      return next format('alter index %s attach partition %s.%I', made->>part.parentrelid::oid::text, part.schema_name, part.name);
    end if;
    made := made || jsonb_build_object(part.relid::oid::text, format('%s.%I', part.schema_name, part.name));
  end loop;
end
$$;

-- What the server reads, over no table yet.
do $$
declare
  statement text;
begin
  for statement in select * from datastream.reads_sql('{}') loop
    execute statement;
  end loop;
end
$$;

-- They read with the rights of who calls them, from views that read with their owner's.
grant execute on function datastream.rounds_by_id(bigint[]),
  datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint) to public;
