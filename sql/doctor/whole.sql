-- The schema has everything that this version of the program reads. `datastream migrate` does not restore dropped objects,
-- because its migrations are recorded as applied. Attaching again restores the objects of attached tables. For all others the
-- schema must be created again.
select 'failed' as status, 'missing: ' || array_to_string(m.missing, ', ') as says,
       case when m.missing <@ m.made_by_attach and exists (select from attached) then
         E'attach again with the same options, as the owner of the table, or detach a dropped table:\n'
         || (select string_agg(case when a.oid_now is null then format('datastream detach --table ''%s''', replace(a.relation, '''', '''\''''')) else a.again end, E'\n' order by a.id)
             from attached a where format('datastream.attached_%s_rounds', a.id) = any (m.missing) or (array_to_string(m.missing, ',') !~ 'attached_\d' and a.id = (select min(id) from attached)))
       else
         E'if datastream migrate prints "up to date", create the schema again, as the owner of the tables, which do not change (clients cannot resume across this; run datastream roles again afterwards):\n'
         'set lock_timeout = ''2s''; drop schema datastream cascade;\n'
         || coalesce((select string_agg(a.again || ' --index', E'\n' order by a.id) from attached a), 'datastream migrate')
       end as remedy
from (
  select array(
    select 'datastream.' || w.name from unnest('{made,outbox,trimmed,compatible_migrations,reconcile_lock,trim_lock,exact_server,attached,attachments_given,seed_indexes,changing,attached_games,finished_rounds,_sqlx_migrations}'::text[]
      || array(select format('attached_%s_rounds', a.id) from attached a)) as w(name)
    where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = w.name)
    union all
    select 'datastream.' || w.name || '()' from unnest('{micros,moment,as_jsonb,reconcile,trim,rounds_by_id,round_by_id,split_keys,rounds_of,ids_since,existing_rows,unsendable_rows,attach,detach,index_sql,adopt,before_change,after_change}'::text[]) as w(name)
    where not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'datastream' and p.proname = w.name)
    order by 1
  ) as missing,
  array['datastream.attached_games', 'datastream.finished_rounds', 'datastream.rounds_by_id()', 'datastream.round_by_id()', 'datastream.rounds_of()', 'datastream.ids_since()']
    || array(select format('datastream.attached_%s_rounds', a.id) from attached a) as made_by_attach
) m
where cardinality(m.missing) > 0
