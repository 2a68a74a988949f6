-- The outbox's size, for gauges.
-- No parameters.
-- Columns: rows bigint (the planner's estimate: a count would read the table), oldest_seconds double precision (age of the
--          oldest row; null if the outbox is empty).
select (select greatest(c.reltuples, 0)::bigint from pg_class c where c.oid = 'datastream.outbox'::regclass) as rows,
       (select extract(epoch from clock_timestamp() - o.at)::double precision
        from datastream.outbox o order by o.xid, o.attachment, o.round_id, o.round_key limit 1) as oldest_seconds
