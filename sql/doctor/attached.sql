-- Each attached table: it is there, its columns still have their names, our view reads it, both triggers are there, of ours
-- and enabled (the partitions' copies too), and the functions' owner may add to the outbox.
select case when problem is null then 'ok' else 'failed' end as status,
       coalesce(relation || ': ' || problem, relation || ': attached, both triggers enabled, capture is ' || capture) as says,
       remedy
from (
  select a.relation, a.capture, f.*
  from attached a
  left join lateral (
    select 'there is no table of that name (dropped?)' as problem, format(E'let it go:\ndatastream detach --table ''%s''', replace(a.relation, '''', '''\''''')) as remedy
    where a.oid is null and a.oid_now is null
    union all
    select 'there is no table of that name (renamed: it is ' || a.oid_now::regclass || ' now)',
           format(E'attach it as it is called now (or let it go: datastream detach --table ''%s''):\n%s', replace(a.relation, '''', '''\'''''), a.again)
    where a.oid is null and a.oid_now is not null
    union all
    select 'there is no table of games ' || (a.options->>'games'), format(E'attach again with its name of now:\n%s', a.again)
    where a.oid is not null and a.options ? 'games' and a.games is null
    union all
    select 'no column ' || quote_ident(c.name), format(E'attach again with its name of now:\n%s', a.again)
    from columns c
    where c.id = a.id and not c.is_there and c.oid in (a.oid, a.games)
    union all
    select 'no trigger ' || w.name, format(E'attach again with the same options:\n%s', a.again)
    from unnest('{datastream_inserted,datastream_updated}'::text[]) as w(name)
    where a.oid is not null
      and not exists (select from pg_trigger t where t.tgrelid = a.oid and t.tgname = w.name)
    union all
    select format('trigger %s on %s does not fire', t.tgname, t.tgrelid::regclass),
           format(E'as its owner:\nalter table %s enable trigger %s;', t.tgrelid::regclass, t.tgname)
    from pg_trigger t
    where t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled not in ('O', 'A')
      and t.tgrelid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)
      -- A partition's that is disabled with its parent's is enabled with it.
      and not exists (select from pg_trigger p where p.oid = t.tgparentid and p.tgenabled not in ('O', 'A'))
    union all
    select 'it has become a partition, and trigger datastream_inserted does not see what is written by way of its parent', format(E'attach again with the same options:\n%s', a.again)
    from pg_class c join pg_trigger t on t.tgrelid = c.oid and t.tgname = 'datastream_inserted' and t.tgtype & 1 = 0
    where c.oid = a.oid and c.relispartition
    union all
    select format('%s inherits from it, and what is written there fires no trigger of ours', i.inhrelid::regclass),
           format(E'attach the tables that inherit, each by itself, after:\ndatastream detach --table ''%s''', replace(a.relation, '''', '''\'''''))
    from pg_inherits i join pg_class c on c.oid = i.inhparent and c.relkind = 'r'
    where i.inhparent = a.oid
    union all
    select format('%s, who owns %s, may not add to the outbox', pg_get_userbyid(p.proowner), p.oid::regprocedure),
           format(E'as the owner of the schema:\ngrant usage on schema datastream to %1$I; grant insert on datastream.outbox to %1$I;', pg_get_userbyid(p.proowner))
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated')
      and not (has_schema_privilege(p.proowner, 'datastream', 'usage') and has_table_privilege(p.proowner, 'datastream.outbox', 'insert'))
    union all
    -- A partition's triggers are copies, for which its maker needs a right on their functions.
    select format('%s, who owns it, may not make partitions', pg_get_userbyid(c.relowner)),
           format(E'as the owner of the schema:\ngrant execute on function datastream.inserted_%1$s(), datastream.updated_%1$s() to %2$I;', a.id, pg_get_userbyid(c.relowner))
    from pg_class c
    where c.oid = a.oid and c.relkind = 'p' and exists (select from pg_trigger t
      where t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated') and not has_function_privilege(c.relowner, t.tgfoid, 'execute'))
  ) f on true
) each
union all
select 'failed', 'no table is attached', E'with the options that your table needs:\ndatastream attach --table ...'
where not exists (select from attached)
