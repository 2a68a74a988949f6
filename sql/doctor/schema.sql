-- The schema datastream exists. (`whole` finds missing objects; it reads the attached tables.)
select 'failed' as status, 'missing: datastream.attached, the list of attached tables, and maybe more' as says,
       E'create the schema again, as the owner of the game''s tables, which do not change; attach each table with its own options:\n'
       'set lock_timeout = ''2s''; drop schema datastream cascade;\ndatastream attach --table ...' as remedy
where exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = 'outbox')
  and not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = 'attached')
union all
select 'failed', 'the schema datastream is missing or empty', E'create it (with --no-tables if the game has its own tables):\ndatastream migrate'
where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname in ('outbox', 'attached'))
