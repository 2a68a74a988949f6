-- Figures for the metrics.
-- No parameters.
-- Columns: rows bigint (the planner's estimate: a count would read the table), oldest_seconds double
--          precision (age of the oldest row, null when empty), trimmed bigint (greatest xid that was
--          deleted, null at first: a listener whose snapshot is older missed rounds for good),
--          notify_queue double precision (share in use of the queue of notifications).
select (select greatest(c.reltuples, 0)::bigint from pg_class c where c.oid = 'datastream.outbox'::regclass) as rows,
       (select extract(epoch from clock_timestamp() - o.at)::double precision
        from datastream.outbox o order by o.xid, o.round_id limit 1) as oldest_seconds,
       (select t.xid::text::bigint from datastream.trimmed t) as trimmed,
       pg_notification_queue_usage() as notify_queue
