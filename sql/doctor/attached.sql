-- Each attached table: it is there, its columns still have their names, both triggers are there, of ours and enabled
-- (the partitions' copies too), and the functions' owner may add to the outbox.
select case when problem is null then 'ok' else 'failed' end as status,
       coalesce(relation || ': ' || problem, relation || ': attached, both triggers enabled, capture is ' || capture) as says,
       remedy
from (
  select a.relation, a.capture, f.*
  from attached a
  left join lateral (
    select 'there is no table of that name (renamed, dropped?)' as problem,
           'run: datastream detach --table ' || quote_literal(a.relation) || ', or attach it as it is called now' as remedy
    where a.oid is null
    union all
    select 'there is no table of games ' || (a.options->>'games'), format('attach again with its new name and --replace: datastream attach --table %L …', a.relation)
    where a.oid is not null and a.options ? 'games' and a.games is null
    union all
    select 'no column ' || quote_ident(o.value), format('attach again with the new name and --replace: datastream attach --table %L …', a.relation)
    from jsonb_each_text(a.options) o
    join lateral (select case when o.key ~ '^games_' then a.games else a.oid end) as t(oid) on t.oid is not null
    where o.key in ('id', 'finished_at', 'extras', 'game_id', 'slug_column', 'type_column', 'games_id', 'games_slug', 'games_name', 'games_type')
      and not exists (select from pg_attribute c where c.attrelid = t.oid and c.attname = o.value and not c.attisdropped)
    union all
    select 'no trigger ' || w.name, format('attach again with the same options: datastream attach --table %L …', a.relation)
    from unnest('{datastream_inserted,datastream_updated}'::text[]) as w(name)
    where a.oid is not null
      and not exists (select from pg_trigger t where t.tgrelid = a.oid and t.tgname = w.name)
    union all
    select format('trigger %s on %s does not fire', t.tgname, t.tgrelid::regclass),
           format('alter table %s enable trigger %s', t.tgrelid::regclass, t.tgname)
    from pg_trigger t
    where t.tgname in ('datastream_inserted', 'datastream_updated') and t.tgenabled not in ('O', 'A')
      and t.tgrelid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)
    union all
    select format('%s, who owns %s, may not add to the outbox', pg_get_userbyid(p.proowner), p.oid::regprocedure),
           'run as the owner of the schema: psql -f sql/roles.sql'
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated')
      and not has_table_privilege(p.proowner, 'datastream.outbox', 'insert')
  ) f on true
) each
union all
select 'failed', 'no table is attached', 'run: datastream attach --table …'
where not exists (select from attached)
