-- Attaches public.rounds if it has the columns of our own table. Makes the seed index if the table is empty.

set local lock_timeout = '2s';

do $$
declare
  command text := 'datastream attach --table public.rounds --id ... --finished-at ... --extras ... --game-id ... --games ...';
  statement text;
  empty boolean;
  doubt text;
begin
  if current_setting('datastream.tables', true) = 'off' then
    return;  -- only the schema is wanted: see the first migration
  end if;
  begin
    perform datastream.attach('public.rounds');
    doubt := datastream.open_rounds('public.rounds', '{"finished_at": "finished_at"}');
    if doubt is not null then
      raise invalid_parameter_value using message = doubt;  -- it undoes the block
    end if;
  exception when undefined_table or invalid_parameter_value or unique_violation then
    raise notice 'public.rounds is left alone: % To stream it, run: %', sqlerrm, command;
    return;
  end;
  -- (The messages contain the commands, because sqlx shows no hints.)
  -- A migration builds no index on a table with rows: the game could not write meanwhile.
  -- (It looks at the table's size, because a policy may hide rows.)
  select sum(pg_relation_size(t.oid)) = 0 into empty
  from (select 'public.rounds'::regclass::oid union select p.relid from pg_partition_tree('public.rounds') p) t(oid);
  if empty then
    for statement in select * from datastream.index_sql('public.rounds', online => false) loop
      execute statement;
    end loop;
  else
    raise notice 'public.rounds has rows: the index for the latest round of a game is not built; to build it while the game goes on, run: datastream attach --table public.rounds --index';
  end if;
end
$$;
