-- `attach` creates the triggers, the view and the index of a table of the game. `detach` drops them.

set local lock_timeout = '2s';

-- The columns that options name, each with its place in a list.
create function datastream.option_columns(options jsonb) returns table (option text, place bigint, name text)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select e.key, coalesce(c.place, 1), coalesce(c.name, e.value #>> '{}')
  from jsonb_each(options) e
  left join lateral jsonb_array_elements_text(case when jsonb_typeof(e.value) = 'array' then e.value else '[]' end) with ordinality as c(name, place) on true
  where e.key in ('id', 'finished_at', 'finished_columns', 'extras', 'extras_columns', 'game_id', 'slug_column', 'type_column', 'games_id', 'games_slug', 'games_name', 'games_type')
    and (c.name is not null or jsonb_typeof(e.value) = 'string')
$$;

-- Whether our view still reads the attached table and its table of games under the names that they had when they were
-- attached. False if one was renamed, dropped or replaced, or a column that the options name.
create function datastream.is_whole(t datastream.attached) returns boolean
language sql stable
as $$
  select not exists (select from unnest(array[t.relation, t.options->>'games']) as n(name)
    where n.name is not null and not exists (select from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      where r.ev_class = to_regclass(format('datastream.attached_%s_rounds', t.id)) and d.refobjid = to_regclass(n.name)))
    and not exists (select from datastream.option_columns(t.options) o
      where not exists (select from pg_catalog.pg_attribute c
        where c.attrelid = to_regclass(case when o.option ~ '^games_' then t.options->>'games' else t.relation end)
          and c.attname = o.name and c.attnum > 0 and not c.attisdropped))
$$;

-- Whether the views and functions that the server reads exist and include this table. (`drop ... cascade` of a table drops its views.)
create function datastream.is_read(t datastream.attached) returns boolean
language sql stable
as $$
  select datastream.is_whole(t) and to_regclass('datastream.attached_games') is not null
    and to_regprocedure('datastream.rounds_by_id(integer, bigint[], text[])') is not null
    and to_regprocedure('datastream.round_by_id(integer, bigint, text)') is not null
    and to_regprocedure('datastream.rounds_of(bigint, text, timestamptz, bigint, text, timestamptz, bigint)') is not null
    and to_regprocedure('datastream.ids_since(integer, timestamptz)') is not null
    and exists (select from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      where r.ev_class = to_regclass('datastream.finished_rounds') and d.refobjid = to_regclass(format('datastream.attached_%s_rounds', t.id)))
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

-- The statements that drop our triggers and indexes from every table that was attached by this number, except `kept`.
-- Dependencies on our functions find the triggers, because a table may have another name now. A partition's trigger and index are
-- dropped with the parent's.
create function datastream.remains_sql(number integer, kept regclass default null) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('drop trigger %I on %s', t.tgname, datastream.qualified(t.tgrelid)) from pg_trigger t
  where t.tgfoid in (to_regprocedure(format('datastream.inserted_%s()', number)), to_regprocedure(format('datastream.updated_%s()', number)))
    and t.tgparentid = 0 and t.tgrelid is distinct from kept
  union all
  select format('drop index %s', datastream.qualified(i.indexrelid)) from datastream.own_indexes() i join pg_class c on c.oid = i.indexrelid
  where i.attachment = number and not c.relispartition and pg_has_role(c.relowner, 'usage')
    and i.indrelid not in (select kept where kept is not null union all select p.relid from pg_partition_tree(kept) p)
  union all
  select format('delete from datastream.seed_indexes where attachment = %s', number) where kept is null
$$;

-- The statements that drop the functions of conditions, except `kept`.
create function datastream.drop_settled_sql(number integer, kept text default null) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('drop function %s', p.oid::regprocedure) from pg_proc p
  where p.pronamespace = 'datastream'::regnamespace and p.proname ~ format('^settled_%s_', number) and p.proname is distinct from kept
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
    select o.relation as name, o.options->'id'->>0 as id, n.sequence, n.step, n.next_one
    from unnest(others) o cross join lateral datastream.next_id(o.relation::regclass, o.options->'id'->>0) n
    where datastream.has_numbers(o.relation::regclass, o.options)
  loop
    shared := datastream.shared_id(this_one, id, other.name, other.id);
    if shared is not null then
      raise unique_violation using
        message = format('ids of rounds must not be the same in two attached tables: %s is in %s and in %s', shared, this_one, other.name),
        hint = 'Attach each with a prefix of its own (--id-prefix), or give one of them ids of another range.';
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

-- `attach` with complete options, under a search_path that the caller cannot choose.
create function datastream.attach_as(relation regclass, options jsonb, given_mode text, replace boolean, dry_run boolean)
returns setof text
language plpgsql
set lock_timeout = '2s' set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  table_name text := datastream.qualified(attach_as.relation);
  options jsonb := attach_as.options;
  mode text;
  problems text;
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
      where t.tgrelid = attach_as.relation and t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)));
  end if;
  others := datastream.others(old.id);
  select string_agg(p, ' ') into problems from datastream.attach_problems(attach_as.relation, options, others) p;
  if (old.options <> options or old.capture <> given_mode) and attach_as.replace is not true then
    problems := concat_ws(' ', problems, format('%s is attached in another way. Pass --replace to change that.', table_name));
  end if;
  if problems is not null then
    raise invalid_parameter_value using message = problems;
  end if;
  mode := datastream.capture_mode(coalesce(given_mode, old.capture, 'auto'));
  if old.relation = table_name and old.options = options and old.capture = mode
    and datastream.has_triggers(attach_as.relation) and datastream.is_read(old) then
    return;
  end if;
  if cardinality(others) > 0 then
    raise notice 'other tables are attached: ids of rounds that are numbers, and ids of games, must not overlap among them';
  end if;
  if datastream.has_numbers(attach_as.relation, options) and (old.id is null or not datastream.is_whole(old)) then
    perform datastream.look_at_ids(attach_as.relation, options->'id'->>0, others);
  end if;
  wanted := row(table_name, coalesce(old.id, (select max(a.id) from datastream.attachments_given a) + 1, 1), mode, options, coalesce(old.attached_at, now()));
  for statement in
    select format('update datastream.attached set relation = %L where relation = %L', table_name, old.relation) where old.relation <> table_name
    union all
    select format('insert into datastream.attached (relation, id, capture, options) values (%L, %s, %L, %L) '
      'on conflict (relation) do update set capture = excluded.capture, options = excluded.options',
      table_name, wanted.id, mode, options)
    union all select format('insert into datastream.attachments_given (id) values (%s)', wanted.id) where old.id is null
    union all select * from datastream.reads_sql(others) where old.id is not null
    union all select format('drop view if exists datastream.attached_%s_rounds', wanted.id) where old.id is not null
    union all select * from datastream.settled_sql(attach_as.relation, options, wanted.id)
    union all select datastream.view_sql(wanted)
    union all select * from datastream.reads_sql(others || wanted)
    union all select * from datastream.remains_sql(wanted.id, attach_as.relation)
    union all select * from datastream.triggers_sql(attach_as.relation, options, wanted.id, mode)
    union all select * from datastream.drop_settled_sql(wanted.id, datastream.settled_name(options, wanted.id))
  loop
    if attach_as.dry_run is not true then
      execute statement;
    end if;
    return next statement;
  end loop;
end
$$;

-- Attaches a table. Returns the statements that it ran, or would run (`dry_run`). Returns none if the table is attached with
-- the same options and nothing is missing. Raises an error with every problem at once, before it changes anything.
-- `given`: the options as the program's option names with `_` for `-`: {"id": ["game_id", "no"], "finished_at": "ended_at"}.
-- `mode`: auto, notify or poll; null is auto for a new table, otherwise unchanged.
create function datastream.attach(relation regclass, given jsonb default '{}', mode text default null, replace boolean default null, dry_run boolean default null)
returns setof text
language sql
as $$
  select * from datastream.attach_as(relation, datastream.attach_options(relation, given), mode, replace, dry_run)
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
    union all select format('drop view if exists datastream.attached_%s_rounds', number)
    union all select * from datastream.remains_sql(number)
    union all select format('drop function if exists datastream.inserted_%s()', number)
    union all select format('drop function if exists datastream.updated_%s()', number)
    union all select * from datastream.drop_settled_sql(number)
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

-- One finished round as it will be streamed, before the table is attached. For a transaction that is rolled back: the view is made
-- under a number that no attached table has.
create function datastream.example(relation regclass, options jsonb)
returns table (round_id bigint, round_key text, game_id bigint, game_key text, game_slug text, game_type text, finished_micros bigint, extras text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  statement text;
begin
  for statement in
    select * from datastream.settled_sql(relation, options, 0)
    union all select datastream.view_sql(row(datastream.qualified(relation), 0, 'auto', options, now())::datastream.attached)
  loop
    execute statement;
  end loop;
  return query execute 'select r.round_id, r.round_key::text, r.game_id, r.game_key::text, r.game_slug::text, r.game_type::text, datastream.micros(r.finished_at), r.extras::text '
    'from datastream.attached_0_rounds r limit 1';
end
$$;
