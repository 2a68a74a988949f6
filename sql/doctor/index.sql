-- The index by which the latest round of a game is found: whole, on each attached table that is not small.
select case when i.valid then 'ok' when c.reltuples > 10000 then 'warning' else 'ok' end as status,
       case when i.valid then a.relation || ': the index for seeds is there'
            when i.valid is null then a.relation || ': no index for seeds' || case when c.reltuples > 10000 then '' else ' (the table is small, or was never analyzed)' end
            else a.relation || ': the index for seeds is not valid, or of another definition' end as says,
       format('datastream attach --table %s … --index (with the options it is attached by): builds it while the game goes on', quote_literal(a.relation)) as remedy
from attached a
join lateral (select sum(greatest(t.reltuples, 0)) as reltuples from pg_class t
              where t.oid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p)) c on true
left join lateral (
  select case when count(*) > 0 then bool_or(x.indisvalid) and not exists (select from datastream.index_sql(a.oid)) end as valid from pg_index x
  where x.indrelid = a.oid and exists (select from pg_depend d
    where d.classid = 'pg_class'::regclass and d.objid = x.indexrelid and d.refclassid = 'pg_proc'::regclass
      and d.refobjid = 'datastream.is_finished(anyelement)'::regprocedure)) i on true
where a.oid is not null
