-- Deletes some of the oldest rows of the outbox; how many.
-- $1 double precision: their least age in seconds   $2 integer: at most
select datastream.trim(make_interval(secs => $1::double precision), $2::integer)
