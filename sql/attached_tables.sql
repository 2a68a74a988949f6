-- The attached tables and their numbers in the outbox, for log lines.
-- No parameters.
-- Columns: id integer, relation text.
select a.id, a.relation from datastream.attached a
