-- The greatest transaction whose rounds retention has trimmed, 0 if none: resume points that reach
-- back to it cannot be honored.
select coalesce((select t.xid::text::bigint from datastream.trimmed t), 0) as xid
