-- `serve` uses one connection to listen and up to four for queries. Every role sees that other roles' sessions exist, but not
-- their kind: a background worker that acts for a role counts as a session.
select case when s.free < 10 then 'warning' else 'ok' end as status,
       format('%s of %s connections are free', greatest(s.free, 0), current_setting('max_connections')) as says,
       'raise max_connections, or close unused sessions: serve uses up to 6' as remedy
from (select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
             - coalesce(current_setting('reserved_connections', true), '0')::integer - count(*) as free
      from pg_stat_activity a
      where a.datid is not null and a.usesysid is not null and coalesce(a.backend_type, 'client backend') = 'client backend') s
