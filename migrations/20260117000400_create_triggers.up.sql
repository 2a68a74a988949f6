-- The trigger functions: static code, generated once for each attached table.
--
-- Both functions:
-- * Code that can fail runs in an EXCEPTION block. If the outbox is missing or a column was renamed, the game
--   gets a warning and the server finds the round later. The game's write never fails.
-- * They read the new rows and no table. Reading another table could wait for its lock, and could fail a
--   SERIALIZABLE transaction.
-- * A notification only wakes the server, which then reads the outbox. Its payload is for other programs that LISTEN.
-- * `auto` notifies only while nobody holds the advisory lock (7264, 1), because transactions that notify commit
--   one after another. (64 writers, 5 ms for a flush: 10,013 inserts/s this way, 174 if each one notifies.) The
--   server holds that lock itself while rounds come faster than it polls.
-- * Every name is qualified, operators and types too, because the functions run with their owner's rights under
--   the writer's search_path. `set search_path` would do the same for 5 us a call. A condition of the operator's is not
--   qualified (PostgreSQL prints `=` and `::text`): a function that contains one sets the path.
-- * PL/pgSQL prepares each expression again in each transaction, up to 1 us each. So expressions are few, and the capture
--   mode is part of the code. An assignment replaces PERFORM, which is a query (3 us).

set local lock_timeout = '2s';

-- A payload that a notification can have, or null: beyond that many bytes NOTIFY fails, and a character that UTF-8 lacks would end
-- the connection of each session that listens.
create function datastream.announced_sql(body text) returns text
language sql stable
as $$
  select pg_catalog.format('case when pg_catalog.octet_length(%1$s) operator(pg_catalog.<=) 7900%2$s then %1$s end', body,
    case when pg_catalog.getdatabaseencoding() = 'UTF8' then '' else pg_catalog.format(' and datastream.is_text(%s)', body) end)
$$;

-- The trigger function for INSERT on an ordinary table. It runs once a statement, over the new rows.
-- * One EXCEPTION block a statement: each block that writes takes a transaction id.
-- * The first attempt has no ON CONFLICT, which doubled the cost of a row (3.0 against 1.4 us). A conflict is rare: an id
--   comes twice in one transaction. Then, or if the payload of one row fails, the function tries again with ON CONFLICT, and without
--   a payload.
-- * `auto` sends a payload if the statement finished one round, `notify` one for each round.
create function datastream.insert_function_sql(relation regclass, options jsonb, number integer, capture text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  e record := datastream.expressions(relation, options, 'r');
  condition text := datastream.finished_sql(options, number, 'r');
  -- Only a round whose id can be sent has a payload.
  announced text := condition || coalesce(' and ' || e.sendable, '');
  record text := case
    when e.is_number then format('insert into datastream.outbox (attachment, round_id) select %s, %s from new_rounds r where %s', number, e.round_id, condition)
    when e.sendable is null then format('insert into datastream.outbox (attachment, round_id, round_key) select %s, 0, %s from new_rounds r where %s', number, e.round_id, condition)
    else format('insert into datastream.outbox (attachment, round_id, round_key) select case when k.sendable then %1$s else -%1$s end, 0, '
      'case when k.sendable then k.key else datastream.bad_key(k.key) end from (select %2$s as key, %3$s as sendable from new_rounds r where %4$s offset 0) k',
      number, e.round_id, e.sendable, condition) end;
  -- (FOUND costs no expression.)
  notify text := case capture
    when 'poll' then ''
    when 'notify' then format($sql$
      if not found then
        return null;
      elsif again then
        done := pg_catalog.pg_notify('datastream_rounds', null);
      else
        perform pg_catalog.pg_notify('datastream_rounds', %3$s)
        from (select %2$s as body from new_rounds r where %1$s offset 0) p;
      end if;$sql$, announced, e.payload, datastream.announced_sql('p.body'))
    else format($sql$
      get diagnostics recorded = row_count;
      if recorded operator(pg_catalog.>) 0 and pg_catalog.pg_try_advisory_xact_lock(7264, 1) then
        if recorded operator(pg_catalog.=) 1 and not again then
          select %2$s into body from new_rounds r where %1$s;
        end if;
        done := pg_catalog.pg_notify('datastream_rounds', %3$s);
      end if;$sql$, announced, e.payload, datastream.announced_sql('body')) end;
begin
  return format($sql$create or replace function datastream.inserted_%1$s() returns trigger
language plpgsql security definer%4$s
as $datastream$
#variable_conflict use_column
declare
  recorded bigint;
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
        %2$s on conflict do nothing;
      else
        %2$s;
      end if;%3$s
      return null;
    exception when others then
      if again then
        raise warning 'datastream: the trigger did not record finished rounds of %%: %%', pg_catalog.format('%%I.%%I', tg_table_schema, tg_table_name), sqlerrm
          using hint = 'Once the cause is fixed, the server finds them within a minute. Run datastream doctor to see the cause.';
        return null;
      end if;
      again := true;
    end;
  end loop;
end
$datastream$
$sql$, number, record, notify, case when options ? 'finished_when' then ' set search_path = pg_catalog, pg_temp' else '' end);
end
$$;

-- The trigger function for one row: UPDATE on any table, and INSERT on a partitioned one. (A statement trigger of the
-- parent does not see an INSERT into a partition.)
-- * The first outbox row of a transaction is written inside the EXCEPTION block, the others outside. The transaction
--   keeps its lock on the outbox, so that an outbox which took one row takes the others.
--   A block for each row would take a transaction id each: one UPDATE of 10,000 rows took 423-652 ms against 214-339 ms,
--   and beyond 64 such ids in one transaction every snapshot of the cluster is slower.
-- * The setting `datastream.recorded` says that the first row is written. It ends with the transaction, or with
--   the rollback of its savepoint.
-- * `auto` notifies for that first row only: a transaction's rounds become visible together, so one wake-up is enough.
-- * If the payload fails, the function tries again without it.
create function datastream.row_function_sql(relation regclass, options jsonb, number integer, event text, capture text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  e record := datastream.expressions(relation, options, 'new');
  send text := format($sql$pg_catalog.pg_notify('datastream_rounds', %s)$sql$, datastream.announced_sql('body'));
  -- Only a round whose id can be sent has a payload.
  body text := case when e.sendable is null then e.payload else format('case when attachment operator(pg_catalog.>) 0 then %s end', e.payload) end;
  payload text := case capture when 'notify' then format($sql$
      if not again then
        body := %s;
      end if;$sql$, body) else '' end;
  notify_first text := case capture when 'auto' then format($sql$
      if pg_catalog.pg_try_advisory_xact_lock(7264, 1) then
        if not again then
          body := %s;
        end if;
        done := %s;
      end if;$sql$, body, send) else '' end;
  notify_each text := case capture when 'notify' then format($sql$
  if recorded then
    done := %s;
  end if;$sql$, send) else '' end;
  read text := format('round := %s;', e.round_id);
  record text := case when e.is_number then format('insert into datastream.outbox (attachment, round_id) values (%s, round) on conflict do nothing', number)
    when e.sendable is null then format('insert into datastream.outbox (attachment, round_id, round_key) values (%s, 0, round) on conflict do nothing', number)
    else 'insert into datastream.outbox (attachment, round_id, round_key) values (attachment, 0, round) on conflict do nothing' end;
begin
  if e.sendable is not null then
    read := read || format($sql$
    attachment := %s;
    if (%s) is not true then
      attachment := -attachment;
      round := datastream.bad_key(round);
    end if;$sql$, number, e.sendable);
  end if;
  return format($sql$create or replace function datastream.%1$s() returns trigger
language plpgsql security definer
as $datastream$
#variable_conflict use_column
declare
  is_first boolean;
  again boolean := false;
  recorded boolean;%6$s
  body pg_catalog.text;
  done pg_catalog.text;
begin
  if pg_catalog.current_setting('datastream.skip', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  loop
    begin
      %2$s
      is_first := coalesce(pg_catalog.current_setting('datastream.recorded', true) operator(pg_catalog.<>) 'on', true);%3$s
      if is_first then
        %7$s;
        recorded := found;%4$s
      end if;
      exit;
    exception when others then
      if again then
        raise warning 'datastream: the trigger did not record a finished round of %%: %%', pg_catalog.format('%%I.%%I', tg_table_schema, tg_table_name), sqlerrm
          using hint = 'Once the cause is fixed, the server finds it within a minute. Run datastream doctor to see the cause.';
        return null;
      end if;
      again := true;
    end;
  end loop;
  if is_first then
    done := pg_catalog.set_config('datastream.recorded', 'on', true);
  else
    %7$s;
    recorded := found;
  end if;%5$s
  return null;
end
$datastream$
$sql$, event || '_' || number, read, payload, notify_first, notify_each, case when e.is_number then E'\n  round bigint not null := 0;'
    else E'\n  round pg_catalog.text not null := '''';' || case when e.sendable is null then '' else E'\n  attachment integer not null := 0;' end end, record);
end
$$;

-- Whether the table needs a row trigger for INSERT: see the function above.
create function datastream.by_row(relation regclass) returns boolean
language sql stable
as $$ select c.relkind = 'p' or c.relispartition or datastream.is_hypertable(relation) from pg_catalog.pg_class c where c.oid = relation $$;

-- Whether a logical subscription writes to the table or to a partition of it. Then only row triggers run, and of these only
-- the ones that are enabled ALWAYS.
create function datastream.is_subscribed(relation regclass) returns boolean
language sql stable
as $$
  select exists (select from pg_catalog.pg_subscription_rel s
    where s.srrelid = relation or s.srrelid in (select p.relid from pg_partition_tree(relation) p))
$$;

-- Whether the table has our two triggers, of the kinds that it needs now. It may have become a partition, or subscribed,
-- since it was attached.
create function datastream.has_triggers(relation regclass) returns boolean
language sql stable
as $$
  select 2 = (select count(*) from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated')
      and (t.tgtype & 1 = 1 or not (datastream.by_row(relation) or datastream.is_subscribed(relation)))
      and (t.tgenabled = 'A' or not datastream.is_subscribed(relation)))
$$;

-- The statements that make the functions and triggers of a table. The triggers come last, because their lock (SHARE ROW
-- EXCLUSIVE) makes writers wait until the end of the transaction. The UPDATE trigger has no column list: it would
-- miss a BEFORE trigger that sets the column.
create function datastream.triggers_sql(relation regclass, options jsonb, id integer, capture text) returns setof text
language plpgsql stable
as $$
declare
  table_name text := datastream.qualified(relation);
  by_row boolean := datastream.by_row(relation) or datastream.is_subscribed(relation);
  always boolean := datastream.is_subscribed(relation) or exists (select from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled = 'A');
  name text;
begin
  return next case when by_row then datastream.row_function_sql(relation, options, id, 'inserted', capture)
    else datastream.insert_function_sql(relation, options, id, capture) end;
  return next datastream.row_function_sql(relation, options, id, 'updated', capture);
  -- The functions run with their owner's rights. A role with EXECUTE could put them on a table of its own, whose columns have
  -- casts of its own. Firing a trigger needs no right. Making a partition does, because its triggers are copies.
  for name in select unnest(array[format('inserted_%s', id), format('updated_%s', id)]) loop
    return next format('revoke execute on function datastream.%I() from public', name);
    if datastream.by_row(relation) then
      return next (select format('grant execute on function datastream.%I() to %I', name, pg_get_userbyid(c.relowner)) from pg_catalog.pg_class c where c.oid = relation);
    end if;
  end loop;
  for name in select t.tgname from pg_catalog.pg_trigger t
      where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated') order by 1 loop
    return next format('drop trigger %I on %s', name, table_name);
  end loop;
  -- An UPDATE finishes a round if the condition was not true and is. (`not (condition)` would be null if the condition is.)
  return next case when by_row then
    format('create trigger datastream_inserted after insert on %s for each row when (%s) '
      'execute function datastream.inserted_%s()', table_name, datastream.finished_sql(options, id, 'new'), id)
  else
    format('create trigger datastream_inserted after insert on %s referencing new table as new_rounds '
      'for each statement execute function datastream.inserted_%s()', table_name, id) end;
  return next format('create trigger datastream_updated after update on %s for each row '
    'when (%s) execute function datastream.updated_%s()', table_name,
    case when options ? 'finished_when' then format('(%s) is not true and (%s)', datastream.finished_sql(options, id, 'old'), datastream.finished_sql(options, id, 'new'))
      else format('old.%1$I is null and new.%1$I is not null', options->>'finished_at') end, id);
  if always then
    for name in select unnest('{datastream_inserted,datastream_updated}'::text[]) loop
      return next format('alter table %s enable always trigger %I', table_name, name);
    end loop;
  end if;
end
$$;
