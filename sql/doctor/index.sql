-- The index by which the latest round of a game is found: whole, on each attached table that is not small. One that is not
-- valid (an interrupted CONCURRENTLY, a partition without it) costs the writers what a whole one does, and nobody reads it.
select case when i.is_whole then 'ok' when i.is_whole is false or c.reltuples > 10000 then 'warning' else 'ok' end as status,
       case when i.is_whole then a.relation || ': the index for seeds is there'
            when i.is_whole is null then a.relation || ': no index for seeds' || case when c.reltuples > 10000 then '' else ' (the table is small, or was never analyzed)' end
            else a.relation || ': the index for seeds is not valid, or of another definition: it costs writes, and serves none' end as says,
       format(E'build it, while the game goes on:\n%s --index', a.again) as remedy
from attached a
join lateral (select sum(greatest(t.reltuples, 0)) as reltuples from pg_class t
              where t.oid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)) c on true
left join lateral (
  select case when count(*) > 0 then bool_or(x.indisvalid) and not exists (select from datastream.index_sql(a.oid)) end as is_whole from pg_index x
  where x.indrelid = a.oid and exists (select from pg_depend d
    where d.classid = 'pg_class'::regclass and d.objid = x.indexrelid and d.refclassid = 'pg_proc'::regclass
      and d.refobjid = 'datastream.is_finished(anyelement)'::regprocedure)) i on true
where a.oid is not null
