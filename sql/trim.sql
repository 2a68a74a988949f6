-- Deletes some of the oldest outbox rows.
-- $1 double precision: how old they must be, in seconds   $2 integer: the most rows to delete
-- Columns: bigint, the rows deleted; null: another session does it at this time.
select datastream.trim(make_interval(secs => $1::double precision), $2::integer)
