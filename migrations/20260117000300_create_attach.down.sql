set local lock_timeout = '2s';

-- Leaves every attached table as it was before: no trigger, no index, no view over it.
do $$
declare
  relation text;
begin
  for relation in select a.relation from datastream.attached a loop
    perform datastream.detach(relation);
  end loop;
end
$$;

drop function if exists datastream.index_sql(regclass, boolean);
drop function if exists datastream.detach(text, boolean);
drop function if exists datastream.attach(regclass, text, text, text, text[], text, bigint, regclass, text, text, text, text,
  text, text, text, text, text, text, boolean, boolean);
drop function if exists datastream.capture_mode(text);
drop function if exists datastream.attach_options(regclass, jsonb);
drop function if exists datastream.remains_sql(integer, regclass);
drop function if exists datastream.others(integer);
drop function if exists datastream.is_whole(datastream.attached);
drop function if exists datastream.triggers_sql(regclass, jsonb, integer, text);
drop function if exists datastream.has_triggers(regclass);
drop function if exists datastream.is_subscribed(regclass);
drop function if exists datastream.by_row(regclass);
drop function if exists datastream.row_function_sql(regclass, jsonb, text, text);
drop function if exists datastream.insert_function_sql(regclass, jsonb, text, text);
drop function if exists datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint);
drop function if exists datastream.rounds_by_id(bigint[]);
drop function if exists datastream.reads_sql(datastream.attached[]);
drop function if exists datastream.games_sql(datastream.attached);
drop function if exists datastream.view_sql(datastream.attached);
drop function if exists datastream.expressions(regclass, jsonb, text);
drop function if exists datastream.column_type(regclass, text, regtype[]);
drop function if exists datastream.qualified(regclass);
drop view if exists datastream.finished_rounds;
drop view if exists datastream.games;
drop table if exists datastream.attached;
