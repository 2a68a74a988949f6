-- Rounds that finished at a moment or later, by the game's clock, at most 100,000.
-- For a database that came back with another history (failover, restore), where transaction ids
-- say nothing. LATERAL per game, so that the seed index serves it.
-- $1 bigint: microseconds since the epoch
select f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from datastream.games g
cross join lateral (
    select r.*
    from datastream.finished_rounds r
    where r.game_id = g.id
      and r.finished_at >= timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
      and r.finished_at < timestamptz '10000-01-01 00:00:00+00'
    order by r.finished_at desc, r.round_id desc
    limit 100000
) f
order by f.finished_at, f.round_id
