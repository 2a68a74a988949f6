-- What runs at a game's write: generated once for each attached table, as static code.

set local lock_timeout = '2s';

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
  which text := e.finished || ' is not null' || e.named;
  ring text := case capture
    when 'poll' then $sql$
      return null;$sql$
    when 'notify' then format($sql$
      perform pg_catalog.pg_notify('datastream_rounds', case when pg_catalog.octet_length(p.body) operator(pg_catalog.<=) 7900 then p.body end)
      from (select %2$s as body from new_rounds r where %1$s offset 0) p;$sql$, which, e.payload)
    else format($sql$
      if pg_catalog.pg_try_advisory_xact_lock(7264, 1) then
        if finished operator(pg_catalog.=) 1 and coalesce(pg_catalog.current_setting('datastream.recorded', true), '') operator(pg_catalog.<>) 'on' then
          select %2$s into body from new_rounds r where %1$s;
          if pg_catalog.octet_length(body) operator(pg_catalog.>) 7900 then
            body := null;
          end if;
        end if;
        done := pg_catalog.pg_notify('datastream_rounds', body);
      end if;$sql$, which, e.payload) end;
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
        insert into datastream.outbox (round_id) select %2$s from new_rounds r where %3$s on conflict do nothing;
      else
        insert into datastream.outbox (round_id) select %2$s from new_rounds r where %3$s;
      end if;
      get diagnostics finished = row_count;
      if finished operator(pg_catalog.=) 0 then
        return null;
      end if;%4$s
      exit;
    exception when others then
      if again or sqlstate operator(pg_catalog.<>) '23505' then
        raise warning 'datastream: finished rounds of %% were not announced: %%', pg_catalog.format('%%I.%%I', tg_table_schema, tg_table_name), sqlerrm
          using hint = 'Once that is mended, the server finds them within a minute. What to mend: datastream doctor.';
        return null;
      end if;
      again := true;
    end;
  end loop;
  done := pg_catalog.set_config('datastream.recorded', 'on', true);
  return null;
end
$datastream$
$sql$, function_name, e.round_id, which, ring);
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
      using hint = 'Once that is mended, the server finds it within a minute. What to mend: datastream doctor.';
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

-- Whether our two triggers are on a table, of the kinds that it needs: it may have become a partition, or subscribed, since.
create function datastream.has_triggers(relation regclass) returns boolean
language sql stable
as $$
  select 2 = (select count(*) from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated')
      and (t.tgtype & 1 = 1 or not (datastream.by_row(relation) or datastream.is_subscribed(relation)))
      and (t.tgenabled = 'A' or not datastream.is_subscribed(relation)))
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
  named text := (datastream.expressions(relation, options, 'new')).named;
  by_row boolean := datastream.by_row(relation) or datastream.is_subscribed(relation);
  always boolean := datastream.is_subscribed(relation) or exists (select from pg_catalog.pg_trigger t
    where t.tgrelid = relation and t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled = 'A');
  name text;
begin
  return next case when by_row then datastream.row_function_sql(relation, options, format('inserted_%s', id), capture)
    else datastream.insert_function_sql(relation, options, format('inserted_%s', id), capture) end;
  return next datastream.row_function_sql(relation, options, format('updated_%s', id), capture);
  -- They run with their owner's rights: who may call them could put them on a table of his own, with columns whose casts are
  -- his. To fire a trigger takes no right; to make a partition, whose triggers are copies, does.
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
  return next case when by_row then
    format('create trigger datastream_inserted after insert on %s for each row when (new.%s is not null%s) '
      'execute function datastream.inserted_%s()', table_name, finished, named, id)
  else
    format('create trigger datastream_inserted after insert on %s referencing new table as new_rounds '
      'for each statement execute function datastream.inserted_%s()', table_name, id) end;
  return next format('create trigger datastream_updated after update on %s for each row '
    'when (old.%2$s is null and new.%2$s is not null%4$s) execute function datastream.updated_%3$s()',
    table_name, finished, id, named);
  if always then
    for name in select unnest('{datastream_inserted,datastream_updated}'::text[]) loop
      return next format('alter table %s enable always trigger %I', table_name, name);
    end loop;
  end if;
end
$$;
