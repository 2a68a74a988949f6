-- Whether what this version of the program reads is there; has_…_privilege and to_reg… do not raise for it.
select case when cardinality(missing) > 0 then 'failed' else 'ok' end as status,
       case when cardinality(missing) > 0 then 'missing: ' || array_to_string(missing, ', ') else 'the schema datastream is there' end as says,
       'run: datastream migrate' as remedy
from (
  select array(
    select 'datastream.' || w.name from unnest('{outbox,trimmed,attached,games,finished_rounds}'::text[]) as w(name)
    where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = w.name)
    union all
    select 'datastream.' || w.name || '()' from unnest('{is_finished,micros,reconcile,trim,rounds_by_id,rounds_of,attach,detach,index_sql}'::text[]) as w(name)
    where not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'datastream' and p.proname = w.name)
  ) as missing) m
