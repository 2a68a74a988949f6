-- The oldest transaction that blocks a session that builds or drops an index CONCURRENTLY. It has written the table, or may
-- still see its old state. Leaves out transactions of less than a second, and this query.
-- $1 integer: the pid of the session
-- Columns: pid integer, 0 for a prepared transaction; blocker text. No row if nothing blocks the session. For sessions of other
-- roles, only members of pg_read_all_stats see more than the role.
select b.pid,
       case when b.pid = 0 then 'a prepared transaction (pg_prepared_xacts)'
            else pg_catalog.format('pid %s (role %s%s%s)%s', b.pid, a.usename, ', ' || nullif(a.application_name, ''), ', ' || a.state,
                        ' since ' || to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF')) end as blocker
from unnest(pg_blocking_pids($1)) b(pid)
left join pg_stat_activity a on a.pid = b.pid
where b.pid <> pg_backend_pid() and coalesce(a.xact_start < clock_timestamp() - interval '1 s', true)
order by a.xact_start
limit 1
