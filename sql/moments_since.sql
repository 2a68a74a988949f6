-- What finished at a moment or later, by the game's clock, at most 100,000 of each game: enough to
-- tell rounds from before the start of the server from later ones after a failover.
-- $1 bigint: microseconds since the epoch
-- Columns: round_id bigint, finished_micros bigint; ordered by finished_at, round_id.
select f.round_id::bigint as round_id, datastream.micros(f.finished_at) as finished_micros
from datastream.games g
cross join lateral datastream.rounds_of(g.id, timestamptz '10000-01-01 00:00:00+00', 0,
  timestamptz 'epoch' + $1::bigint * interval '1 microsecond', 100000) f
order by f.finished_at, f.round_id
