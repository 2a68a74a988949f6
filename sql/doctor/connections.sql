-- `serve` uses up to 12 connections: 1 to listen, 8 for queries, 1 for maintenance, 1 to suppress notifications while many rounds
-- come, and for a moment 1 to test the delivery of notifications. `serve` asks this at its start, too. Neither limit applies to
-- a superuser. Every role sees that other roles' sessions exist, but not their kind: a background worker that acts for a
-- role counts as a session.
select case when l.most < 3 then 'failed' else 'warning' end as status,
       format('%s may have %s connections (%s are open), and serve uses up to 12: 1 to listen, 8 for queries, 1 for maintenance, 2 at times',
              l.name, l.most, l.open) as says,
       format(E'raise the limit:\n%s connection limit %s', l.alter, 16) as remedy
from (select format('the role %I', r.rolname) as name, r.rolconnlimit as most, format('alter role %I', r.rolname) as alter,
             (select count(*) from pg_stat_activity a where a.usesysid = r.oid) as open
      from pg_roles r where r.rolname = session_user
      union all
      select format('the database %I', d.datname), d.datconnlimit, format('alter database %I', d.datname),
             (select count(*) from pg_stat_activity a where a.datid = d.oid)
      from pg_database d where d.datname = current_database()) l
where l.most between 0 and 11 and not (select rolsuper from pg_roles where rolname = session_user)
union all
select case when s.free < 14 then 'warning' else 'ok' end as status,
       format('%s of %s connections are free, and serve uses up to 12', greatest(s.free, 0), current_setting('max_connections')) as says,
       'raise max_connections, or close unused sessions' as remedy
from (select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
             - coalesce(current_setting('reserved_connections', true), '0')::integer - count(*) as free
      from pg_stat_activity a
      where a.datid is not null and a.usesysid is not null and coalesce(a.backend_type, 'client backend') = 'client backend') s
