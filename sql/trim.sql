-- Deletes some of the oldest outbox rows.
-- $1 double precision: their least age in seconds   $2 integer: at most
-- Columns: bigint, the rows deleted; null: another session is doing it.
select datastream.trim(make_interval(secs => $1::double precision), $2::integer)
