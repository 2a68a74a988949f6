-- Each attached table that is not small has a valid index for the latest round of a game. An invalid one (an interrupted
-- CONCURRENTLY, a partition without it) costs writers as much as a valid one, and no query uses it.
select case when i.is_whole then 'ok' when i.is_whole is false or c.reltuples > 10000 then 'warning' else 'ok' end as status,
       case when i.is_whole then a.relation || ': the index for seeds is valid'
            when i.is_whole is null then a.relation || ': no index for seeds' || case when c.reltuples > 10000 then '' else ' (the table is small, or was never analyzed)' end
            else a.relation || ': the index for seeds is invalid, or has another definition: it slows writes, and no query uses it' end as says,
       format(E'build it, without blocking the game:\n%s --index', a.again) as remedy
from attached a
join lateral (select sum(greatest(t.reltuples, 0)) as reltuples from pg_class t
              where t.oid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)) c on true
left join lateral (
  select case when count(*) > 0 then bool_or(x.indisvalid) and not exists (select from datastream.index_sql(a.oid)) end as is_whole from pg_index x
  where x.indrelid = a.oid and x.indexrelid in (select o.indexrelid from datastream.own_indexes() o)) i on true
where a.oid is not null
