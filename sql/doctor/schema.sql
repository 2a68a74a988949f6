-- Whether our schema is there. (What is missing in it is told by `whole`, which reads what is attached.)
select 'failed' as status, 'missing: datastream.attached, which says what is attached, and maybe more' as says,
       E'all of the schema is to be made anew; the game''s tables stay as they are. As their owner, and each table with its own options:\n'
       'set lock_timeout = ''2s''; drop schema datastream cascade;\ndatastream attach --table ...' as remedy
where exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = 'outbox')
  and not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname = 'attached')
union all
select 'failed', 'there is no schema datastream, or nothing in it', E'make it (a game that has tables of its own: with --no-tables):\ndatastream migrate'
where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and c.relname in ('outbox', 'attached'))
