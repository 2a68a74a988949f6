-- The number of attached tables, by capture mode. Needs the schema datastream.
-- No parameters.
-- Columns: attached bigint, auto bigint, notify bigint, poll bigint.
select count(*) as attached,
       count(*) filter (where a.capture = 'auto') as auto,
       count(*) filter (where a.capture = 'notify') as notify,
       count(*) filter (where a.capture = 'poll') as poll
from datastream.attached a
