-- What was finished after a round that was named, or while it was: read from the database where
-- memory does not reach back. It may repeat rounds that overlapped the named one, and loses none
-- (ordering by (xid, round_id) lost 4,139 rounds over 942 resume points, `before` none).
-- $1 bigint: the round that was named; $2 bigint[]: game ids, or null for all; $3 bigint: at most so many;
-- $4 bigint: its `before`, from resume_point.sql.
-- Columns: as recent.sql; ordered by xid, round_id.
select o.xid::text::bigint as xid, o.before::text::bigint as before,
       f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from datastream.outbox o
cross join lateral datastream.rounds_by_id(array[o.round_id]) f
where o.xid >= $4::bigint::text::xid8
  and o.round_id <> $1::bigint
  and ($2::bigint[] is null or f.game_id = any ($2::bigint[]))
order by o.xid, o.round_id
limit $3::bigint
