-- Objects of the migrations that were dropped, or null if there are none. For a database in which the migrations are recorded.
-- No parameters.
-- Columns: missing text.
select string_agg('datastream.' || w.name, ', ') as missing
from unnest('{made,outbox,trimmed,compatible_migrations,reconcile_lock,trim_lock,exact_server,attached,attachments_given,seed_indexes,attached_games,finished_rounds,micros,moment,as_jsonb,rounds_by_id,round_by_id,split_keys,rounds_of,ids_since,existing_rows,unsendable_rows,attach,detach,index_sql,reconcile,trim}'::text[]) as w(name)
where to_regclass('datastream.' || w.name) is null
  and not exists (select from pg_proc p where p.pronamespace = 'datastream'::regnamespace and p.proname = w.name)
