-- Publications for all tables, of which a subscriber may stop at our first row; where nobody has said that it will not.
-- No parameters.
-- Columns: publications text, null where there is none.
select string_agg(p.pubname, ', ' order by p.pubname) as publications
from pg_publication p
where p.puballtables and current_setting('wal_level') = 'logical'
  and current_setting('datastream.published', true) is distinct from 'on'
