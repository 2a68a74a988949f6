-- A publication for all tables, or for tables of the schema datastream: a subscriber without these tables stops at the first
-- round. This query cannot know whether it has them.
select 'warning' as status, format('publication %s includes tables of datastream: a subscriber without them stops at the first round (doctor cannot check the subscriber)', quote_ident(p.pubname)) as says,
       format(E'create the schema at each subscriber (pg_dump -s -n datastream | psql), or publish the game''s tables by name, as the owner of the publication, and add later tables yourself:\n')
       || case when p.puballtables then
         format('begin; drop publication %1$I; create publication %1$I%2$s with (publish = %3$L%4$s); commit;', p.pubname,
           -- A partitioned table instead of its partitions, so that later partitions are published too.
           ' for table ' || (select string_agg(distinct format('%I.%I', n.nspname, r.relname), ', ')
                             from pg_publication_tables t
                             -- Not by `::regclass`, because doctor's role may lack the right to use the schema.
                             join pg_namespace s on s.nspname = t.schemaname
                             join pg_class c on c.relnamespace = s.oid and c.relname = t.tablename
                             join pg_class r on r.oid = coalesce(pg_partition_root(c.oid), c.oid)
                             join pg_namespace n on n.oid = r.relnamespace
                             where t.pubname = p.pubname and t.schemaname <> 'datastream'),
           concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end, case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end),
           case when p.pubviaroot then ', publish_via_partition_root = true' else '' end
           -- Since PostgreSQL 18.
           || case when to_jsonb(p)->>'pubgencols' = 's' then ', publish_generated_columns = stored' else '' end)
       when cardinality(o.named) > 0 then format('alter publication %I drop table %s;', p.pubname, array_to_string(o.named, ', '))
       else format('alter publication %I drop tables in schema datastream;', p.pubname) end as remedy
from pg_publication p
cross join lateral (select array(select r.prrelid::regclass::text from pg_publication_rel r join pg_class c on c.oid = r.prrelid
                                 where r.prpubid = p.oid and c.relnamespace = 'datastream'::regnamespace) as named) o
where exists (select from pg_publication_tables t where t.pubname = p.pubname and t.schemaname = 'datastream')
