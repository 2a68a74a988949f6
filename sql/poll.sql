-- What was committed since a snapshot: the poll.
-- $1 text: the snapshot of the last poll that was read to its end.
-- $2 bigint: how many rows at most; where there are so many, they are read by page.sql instead.
-- Columns: snapshot text (the next $1), inserted bigint, flushed bigint (WAL positions: while `inserted`
--          of one poll is above `flushed` of a later one, a crash may take back what the first has seen),
--          xid bigint, before bigint, round_id bigint, at_micros bigint (when the outbox row was written, since the
--          epoch), age_micros bigint (the same, ago), now_micros bigint (the database's clock, since the epoch).
-- One row with a null round_id where nothing is new; ordered by xid, round_id.
-- `>= xmax or = any (xip)` is what `not visible` means, without reading everything younger than the
-- oldest open transaction (0.23 ms against 44.8 ms behind one that was open for a million rows). `< xmax` leaves
-- out what a logical restore has brought of another cluster: transactions that have yet to begin in this one (a
-- condition on the key: 0.06 ms beside a million of them).
select s.snap::text as snapshot, (s.inserted - '0/0'::pg_lsn)::bigint as inserted, (s.flushed - '0/0'::pg_lsn)::bigint as flushed,
       o.xid::text::bigint as xid, o.before::text::bigint as before, o.round_id,
       (extract(epoch from o.at) * 1000000)::bigint as at_micros,
       (extract(epoch from clock_timestamp() - o.at) * 1000000)::bigint as age_micros,
       s.now_micros
from (select pg_current_snapshot() as snap, pg_current_wal_insert_lsn() as inserted, pg_current_wal_flush_lsn() as flushed,
             (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros) s
left join datastream.outbox o
  on (o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and o.xid < pg_snapshot_xmax(pg_current_snapshot()))
  or o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
order by o.xid, o.round_id
limit $2::bigint
