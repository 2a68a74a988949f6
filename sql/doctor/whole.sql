-- Whether all that this version of the program reads is in the schema. `datastream migrate` brings back nothing that was
-- dropped: its work is recorded as done. What attaching makes comes back with it, all else with the whole schema.
select 'failed' as status, 'missing: ' || array_to_string(m.missing, ', ') as says,
       case when m.missing <@ m.made_by_attach and exists (select from attached) then
         E'attach again with the same options, as the owner of the table (or let go what is gone):\n'
         || (select string_agg(case when a.oid_now is null then format('datastream detach --table ''%s''', replace(a.relation, '''', '''\''''')) else a.again end, E'\n' order by a.id)
             from attached a where 'datastream.rounds_' || a.id = any (m.missing) or (array_to_string(m.missing, ',') !~ 'rounds_\d' and a.id = (select min(id) from attached)))
       else
         E'if datastream migrate says "up to date", make the schema anew, as the owner of the tables (they stay as they are; resume points are lost, and rights in the schema: sql/roles.sql gives them again):\n'
         'set lock_timeout = ''2s''; drop schema datastream cascade;\n'
         || coalesce((select string_agg(a.again || ' --index', E'\n' order by a.id) from attached a), 'datastream migrate')
       end as remedy
from (
  select array(
    select 'datastream.' || w.name from unnest('{made,outbox,trimmed,compatible_migrations,reconcile_lock,trim_lock,attached,games,finished_rounds}'::text[]
      || array(select 'rounds_' || a.id from attached a)) as w(name)
    where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = w.name)
    union all
    select 'datastream.' || w.name || '()' from unnest('{is_finished,micros,moment,as_jsonb,reconcile,trim,rounds_by_id,rounds_of,attach,detach,index_sql}'::text[]) as w(name)
    where not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'datastream' and p.proname = w.name)
    order by 1
  ) as missing,
  array['datastream.games', 'datastream.finished_rounds', 'datastream.rounds_by_id()', 'datastream.rounds_of()']
    || array(select 'datastream.rounds_' || a.id from attached a) as made_by_attach
) m
where cardinality(m.missing) > 0
