-- 13 is the oldest with 64-bit transaction ids in SQL. The minor releases of February 2026 are the first in which VACUUM
-- does not remove what a LISTEN that comes later still looks up ("could not access status of transaction").
select case when v.number < 130000 then 'failed' when v.number >= 140000 and v.number < v.mended then 'warning' else 'ok' end as status,
       'PostgreSQL ' || current_setting('server_version') as says,
       case when v.number < 130000 then 'use PostgreSQL 13 or later'
            else 'install the latest minor release: LISTEN can fail after a long time without notifications in this one' end as remedy
from (select n.number, case n.number / 10000 when 14 then 140021 when 15 then 150016 when 16 then 160012 when 17 then 170008 when 18 then 180002 else 0 end as mended
      from (select current_setting('server_version_num')::integer as number) n) v
