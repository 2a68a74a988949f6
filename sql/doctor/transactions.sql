-- A transaction that stays open holds back VACUUM, and trimming with it; one that has rung keeps the bell from others.
-- Roles without pg_read_all_stats see the times of their own sessions only.
select 'warning' as status,
       format('pid %s (role %s, %s, %s) is in a transaction since %s', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application_name'),
              a.state, to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF')) as says,
       format(E'end it, as its role, or one of pg_signal_backend:\nselect pg_terminate_backend(%s);', a.pid) as remedy
from pg_stat_activity a
where a.datname = current_database() and a.xact_start < clock_timestamp() - interval '5 minutes' and a.pid <> pg_backend_pid()
  and a.backend_type = 'client backend'
union all
select 'warning', format('pid %s has rung the bell and does not commit, since %s: other rounds are found by polls', l.pid, to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF')),
       'commit soon after a round is finished'
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = 7264 and l.objid = 1 and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and a.xact_start < clock_timestamp() - interval '2 s'
union all
select 'ok', format('of other roles than %s nothing is seen: their transactions are shown to members of pg_read_all_stats', current_user), null
where not pg_has_role('pg_read_all_stats', 'usage')
