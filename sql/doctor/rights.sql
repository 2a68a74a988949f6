-- The role has the rights that `serve` needs, and is not a superuser. Reads no table of datastream, so that it works for a role
-- that may not read them.
select case when cardinality(missing) > 0 then 'failed' when r.rolsuper then 'warning' else 'ok' end as status,
       case when cardinality(missing) > 0 then format('role %s may not: %s', current_user, array_to_string(missing, ', '))
            when r.rolsuper then format('role %s is a superuser, and serve needs few rights', current_user)
            else format('role %s has the rights that serve needs', current_user) end as says,
       case when cardinality(missing) > 0 then 'run as the owner of the schema'
            else 'run this, then let serve connect as datastream_reader' end
       || E':\ndatastream roles | psql "$DATABASE_URL"'
       -- An owner from an earlier run of roles.sql keeps the schema.
       || (select format(' -v owner=''%s''', replace(o.rolname, '''', '''\''''')) from pg_namespace n join pg_roles o on o.oid = n.nspowner
           where n.nspname = 'datastream' and not o.rolcanlogin union all select '' limit 1)
       || case when cardinality(missing) > 0 then format(' -v reader=''%s''', replace(current_user, '''', '''\''''')) else '' end as remedy
from pg_roles r
cross join lateral (
  select array(
    select 'use the schema datastream' where not has_schema_privilege('datastream', 'usage')
    union all
    select 'select from datastream.' || c.relname from pg_class c
    where c.relnamespace = 'datastream'::regnamespace and c.relkind in ('r', 'v')
      and (c.relname in ('outbox', 'trimmed', 'attached', 'seed_indexes', 'attached_games', 'finished_rounds', '_sqlx_migrations', 'compatible_migrations', 'exact_server') or c.relname ~ '^attached_\d+_rounds$')
      and not has_table_privilege(c.oid, 'select')
    union all
    select 'update datastream.exact_server' from pg_class c
    where c.relnamespace = 'datastream'::regnamespace and c.relname = 'exact_server' and not has_table_privilege(c.oid, 'update')
    union all
    select 'execute datastream.' || p.proname from pg_proc p
    where p.pronamespace = 'datastream'::regnamespace and p.proname in ('micros', 'moment', 'moment_of', 'as_jsonb', 'is_text', 'is_key', 'is_printable', 'integer_of', 'numeric_of', 'uuid_of', 'reconcile', 'trim', 'rounds_by_id', 'round_by_id', 'split_keys', 'rounds_of', 'existing_rows',
      -- For doctor.
      'index_sql', 'index_definition', 'finished_sql', 'settled_name', 'is_hypertable', 'has_numbers', 'column_type', 'columns_of', 'id_kind', 'option_columns', 'own_indexes', 'relation_named', 'qualified', 'shared_id', 'shared_id_sql', 'is_indexed', 'unsendable_rows')
      and not has_function_privilege(p.oid, 'execute')
  ) as missing) m
where r.rolname = current_user
