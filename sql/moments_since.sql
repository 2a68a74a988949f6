-- What finished at a moment or later, by the game's clock, at most 10,000 of each game: tells rounds
-- from before the start of the server from later ones after a failover. 40,000 take 0.1 s.
-- $1 bigint: microseconds since the epoch
-- Columns: round_id bigint, finished_micros bigint; ordered by finished_at, round_id.
select f.round_id::bigint as round_id, datastream.micros(f.finished_at) as finished_micros
from datastream.games g
cross join lateral datastream.rounds_of(g.id, timestamptz '10000-01-01 00:00:00+00', 0,
  timestamptz 'epoch' + $1::bigint * interval '1 microsecond', 10000) f
order by f.finished_at, f.round_id
