-- How many tables are attached, and how word is sent of them. To be run where the schema exists.
-- No parameters.
-- Columns: attached bigint, auto bigint, notify bigint, poll bigint.
select count(*) as attached,
       count(*) filter (where a.capture = 'auto') as auto,
       count(*) filter (where a.capture = 'notify') as notify,
       count(*) filter (where a.capture = 'poll') as poll
from datastream.attached a
