-- From where a resume after this round must be replayed.
-- $1 bigint: the round that was named.
-- Columns: before bigint (null: not in the outbox, or so old that what followed it may have been
--          trimmed), xmax bigint (every transaction from this id on is younger than the answer).
-- The smallest `before`, since a round that finished twice is in the outbox twice and which of the two
-- the client saw is not known.
select (select min(o.before::text::bigint)
        from datastream.outbox o
        where o.round_id = $1::bigint
        having min(o.before::text::bigint) > coalesce((select t.xid::text::bigint from datastream.trimmed t), 0)) as before,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xmax
