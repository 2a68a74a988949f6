-- 13 is the oldest version with 64-bit transaction ids in SQL. Before the minor releases of February 2026, VACUUM could
-- remove transaction status that a later LISTEN looks up ("could not access status of transaction").
select case when v.number < 130000 then 'failed' when v.number >= 140000 and v.number < v.fixed then 'warning' else 'ok' end as status,
       'PostgreSQL ' || current_setting('server_version') as says,
       case when v.number < 130000 then 'use PostgreSQL 13 or later'
            else 'install the latest minor release: in this one LISTEN can fail after a long time without notifications' end as remedy
from (select n.number, case n.number / 10000 when 14 then 140021 when 15 then 150016 when 16 then 160012 when 17 then 170008 when 18 then 180002 else 0 end as fixed
      from (select current_setting('server_version_num')::integer as number) n) v
