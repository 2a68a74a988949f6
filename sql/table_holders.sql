-- Transactions that have held a lock on a table, or on one of its partitions, for longer than $3 seconds, oldest first. Our DDL
-- would wait for them, and later writes of the game would wait for our DDL.
-- $1 text: the table   $2 boolean: include readers (dropping a trigger or an index needs an exclusive lock)
-- $3 double precision: seconds
-- Columns: holder text, since text, seconds bigint. A role that may not see other roles' sessions gets no rows for them.
select case when l.pid is null then pg_catalog.format('prepared transaction %L (role %s)', p.gid, p.owner)
            else pg_catalog.format('pid %s (role %s, %s, %s)', l.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application_name'), a.state) end as holder,
       to_char(coalesce(p.prepared, a.xact_start), 'YYYY-MM-DD HH24:MI:SSOF') as since,
       extract(epoch from clock_timestamp() - coalesce(p.prepared, a.xact_start))::bigint as seconds
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join (pg_prepared_xacts p join pg_locks own on own.locktype = 'transactionid' and own.pid is null and own.transactionid = p.transaction)
  on l.pid is null and own.virtualtransaction = l.virtualtransaction
where l.locktype = 'relation' and l.granted
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and l.relation in (select to_regclass($1) union all select t.relid from pg_partition_tree(to_regclass($1)) t)
  and l.pid is distinct from pg_backend_pid()
  and coalesce(a.backend_type, '') <> 'autovacuum worker'  -- PostgreSQL cancels it for our lock
  and ($2::boolean or l.mode not in ('AccessShareLock', 'RowShareLock'))
  and coalesce(p.prepared, a.xact_start) < clock_timestamp() - make_interval(secs => $3::double precision)
group by 1, 2, 3
order by 3 desc
