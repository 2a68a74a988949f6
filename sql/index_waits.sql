-- Whom a CREATE INDEX CONCURRENTLY waits for: a transaction that has written the table, or that may still see it as it was.
-- $1 integer: the session that builds
-- Columns: who text. No row where it waits for nobody. Of other roles' sessions only members of pg_read_all_stats see more than the role.
select format('pid %s (role %s%s%s)%s', a.pid, a.usename, ', ' || nullif(a.application_name, ''), ', ' || a.state,
              ' since ' || to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF')) as who
from pg_stat_progress_create_index p join pg_stat_activity a on a.pid = p.current_locker_pid
where p.pid = $1
