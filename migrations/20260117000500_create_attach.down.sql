set local lock_timeout = '2s';

-- Detaches every table: drops its triggers, index and view.
do $$
declare
  relation text;
begin
  for relation in select a.relation from datastream.attached a loop
    perform datastream.detach(relation);
  end loop;
end
$$;

drop function if exists datastream.example(regclass, jsonb);
drop function if exists datastream.detach(text, boolean);
drop function if exists datastream.let_go(text, regclass, boolean);
drop function if exists datastream.attach(regclass, jsonb, text, boolean, boolean);
drop function if exists datastream.attach_as(regclass, jsonb, text, boolean, boolean);
drop function if exists datastream.capture_mode(text);
drop function if exists datastream.look_at_ids(regclass, text, datastream.attached[]);
drop function if exists datastream.shared_id(text, text, text, text);
drop function if exists datastream.is_indexed(text, text);
drop function if exists datastream.shared_id_sql(text, text, text, text);
drop function if exists datastream.next_id(regclass, text);
drop function if exists datastream.drop_settled_sql(integer, text);
drop function if exists datastream.remains_sql(integer, regclass);
drop function if exists datastream.others(integer);
drop function if exists datastream.is_read(datastream.attached);
drop function if exists datastream.is_whole(datastream.attached);
drop function if exists datastream.option_columns(jsonb);
