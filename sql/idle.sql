-- For a quiet database: whether poll.sql would find rows. Its text is a third as long, because PostgreSQL logs it 345,600
-- times a day with log_statement = all.
-- $1 text: the snapshot of the last poll that was read to its end.
-- Columns: those of poll.sql with the state of the database, and has_rows boolean. The conditions are those of poll.sql.
select pg_current_snapshot()::text as snapshot, (pg_current_wal_insert_lsn() - '0/0')::bigint as inserted,
       (pg_current_wal_flush_lsn() - '0/0')::bigint as flushed,
       (extract(epoch from clock_timestamp()) * 1e6)::bigint as now_micros,
       case when pg_try_advisory_lock(7264, 10) then pg_advisory_unlock(7264, 10) else false end as alone,
       (select server from datastream.exact_server) as exact_server,
       exists (select from datastream.outbox where xid >= pg_snapshot_xmax(s) and xid < pg_snapshot_xmax(pg_current_snapshot()))
       or exists (select from datastream.outbox where xid = any (array(select pg_snapshot_xip(s)))) as has_rows
from (select $1::text::pg_snapshot s) t
