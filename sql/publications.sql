-- Publications for all tables, whose subscribers may stop at our first row, unless datastream.published is on.
-- No parameters.
-- Columns: publications text, null if there are none.
select string_agg(p.pubname, ', ' order by p.pubname) as publications
from pg_publication p
where p.puballtables and current_setting('wal_level') = 'logical'
  and current_setting('datastream.published', true) is distinct from 'on'
