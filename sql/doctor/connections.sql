-- Serve takes one connection to listen and up to four for queries.
select case when s.free < 10 then 'warning' else 'ok' end as status,
       format('%s of %s connections are free', s.free, current_setting('max_connections')) as says,
       'raise max_connections, or close sessions that are not needed: serve takes up to 6' as remedy
from (select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer - count(*) as free
      from pg_stat_activity where backend_type = 'client backend') s
