-- Each attached table exists, its columns have the names of its options, both triggers exist and are enabled (on its
-- partitions too), and the owner of the trigger functions may insert into the outbox.
select case when problem is null then 'ok' else 'failed' end as status,
       coalesce(relation || ': ' || problem, relation || ': attached, both triggers enabled, capture is ' || capture) as says,
       remedy
from (
  select a.relation, a.capture, f.*
  from attached a
  left join lateral (
    select 'the table does not exist (dropped?)' as problem, format(E'detach it:\ndatastream detach --table ''%s''', replace(a.relation, '''', '''\''''')) as remedy
    where a.oid is null and a.oid_now is null
    union all
    select 'the table was renamed to ' || a.oid_now::regclass,
           format(E'attach it by its new name (or detach it: datastream detach --table ''%s''):\n%s', replace(a.relation, '''', '''\'''''), a.again)
    where a.oid is null and a.oid_now is not null
    union all
    select 'the table of games ' || (a.options->>'games') || ' does not exist', format(E'attach again with its current name:\n%s', a.again)
    where a.oid is not null and a.options ? 'games' and a.games is null
    union all
    select 'column ' || quote_ident(c.name) || ' does not exist', format(E'attach again with its current name:\n%s', a.again)
    from columns c
    where c.id = a.id and not c.is_there and c.oid in (a.oid, a.games)
    union all
    select 'trigger ' || w.name || ' does not exist', format(E'attach again with the same options:\n%s', a.again)
    from unnest('{datastream_inserted,datastream_updated}'::text[]) as w(name)
    where a.oid is not null
      and not exists (select from pg_trigger t where t.tgrelid = a.oid and t.tgname = w.name)
    union all
    select format('trigger %s on %s is disabled', t.tgname, t.tgrelid::regclass),
           format(E'run as the owner of the table:\nalter table %s enable trigger %s;', t.tgrelid::regclass, t.tgname)
    from pg_trigger t
    where t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled not in ('O', 'A')
      and t.tgrelid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)
      -- Enabling the parent's trigger enables those of its partitions.
      and not exists (select from pg_trigger p where p.oid = t.tgparentid and p.tgenabled not in ('O', 'A'))
    union all
    select 'the table became a partition, and trigger datastream_inserted does not fire for rows written to its parent', format(E'attach again with the same options:\n%s', a.again)
    from pg_class c join pg_trigger t on t.tgrelid = c.oid and t.tgname = 'datastream_inserted' and t.tgtype & 1 = 0
    where c.oid = a.oid and c.relispartition
    union all
    select format('%s inherits from the table, and rows written to it fire no trigger of datastream', i.inhrelid::regclass),
           format(E'detach this table, then attach each table that inherits from it:\ndatastream detach --table ''%s''', replace(a.relation, '''', '''\'''''))
    from pg_inherits i join pg_class c on c.oid = i.inhparent and c.relkind = 'r'
    where i.inhparent = a.oid
    union all
    select format('role %s, the owner of %s, may not insert into the outbox', pg_get_userbyid(p.proowner), p.oid::regprocedure),
           format(E'run as the owner of the schema:\ngrant usage on schema datastream to %1$I; grant insert on datastream.outbox to %1$I;', pg_get_userbyid(p.proowner))
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated')
      and not (has_schema_privilege(p.proowner, 'datastream', 'usage') and has_table_privilege(p.proowner, 'datastream.outbox', 'insert'))
    union all
    -- A new partition gets copies of the triggers: creating it needs the right to execute their functions.
    select format('role %s, the owner of the table, may not create partitions', pg_get_userbyid(c.relowner)),
           format(E'run as the owner of the schema:\ngrant execute on function datastream.inserted_%1$s(), datastream.updated_%1$s() to %2$I;', a.id, pg_get_userbyid(c.relowner))
    from pg_class c
    where c.oid = a.oid and c.relkind = 'p' and exists (select from pg_trigger t
      where t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated') and not has_function_privilege(c.relowner, t.tgfoid, 'execute'))
  ) f on true
) each
union all
select 'failed', 'no table is attached', E'attach a table, with the options that it needs:\ndatastream attach --table ...'
where not exists (select from attached)
