-- A transaction that stays open holds back VACUUM. One that has announced a round in mode auto keeps the lock for
-- notifications, so that others do not notify. Roles without pg_read_all_stats see only the times of their own sessions.
select 'warning' as status,
       format('pid %s (role %s, %s, %s) has been in a transaction since %s', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application_name'),
              a.state, to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF')) as says,
       format(E'end it, as its role or a member of pg_signal_backend:\nselect pg_terminate_backend(%s);', a.pid) as remedy
from pg_stat_activity a
where a.datname = current_database() and a.xact_start < clock_timestamp() - interval '5 minutes' and a.pid <> pg_backend_pid()
  and a.backend_type = 'client backend'
union all
select 'warning', format('pid %s (role %s) has held the lock that a writer needs to notify since %s: the server finds rounds by polling', l.pid, a.usename,
         coalesce(to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SSOF'), 'before its last transaction')),
       format(E'commit soon after a round finishes. End this session if it is not of the game:\nselect pg_terminate_backend(%s);', l.pid)
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = 7264 and l.objid = 1 and l.granted and l.database = (select d.oid from pg_database d where d.datname = current_database())
  -- The server itself holds it under load.
  and a.application_name !~ ' suppress( [^ ]+)?$'
  and (a.xact_start is null or a.xact_start < clock_timestamp() - interval '2 s')
union all
select 'warning', format('pid %s (role %s) holds a lock by which servers find each other: a resume may repeat rounds', l.pid, a.usename),
       format(E'end it, as its role or a member of pg_signal_backend:\nselect pg_terminate_backend(%s);', l.pid)
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = 7264 and l.objid in (10, 11) and l.granted and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and a.application_name !~ ' (listen|read-only)( [^ ]+)?$'
union all
select 'ok', format('role %s sees its own transactions only: members of pg_read_all_stats see all', current_user), null
where not pg_has_role('pg_read_all_stats', 'usage')
