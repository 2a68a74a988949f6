-- What finished at a moment or later, by the game's clock, at most 10,000 of each game, and what of older
-- moments was recorded since, among the newest 10,000 of the outbox: tells rounds from before the start
-- of the server from later ones after a failover. 40,000 take 0.1 s.
-- $1 bigint: microseconds since the epoch
-- Columns: round_id bigint, finished_micros bigint; ordered by finished_at, round_id.
select f.round_id::bigint as round_id, datastream.micros(f.finished_at) as finished_micros
from (
  select f.round_id, f.finished_at from datastream.games g
  cross join lateral datastream.rounds_of(g.id, timestamptz '10000-01-01 00:00:00+00', 0,
    timestamptz 'epoch' + $1::bigint * interval '1 microsecond', 10000) f
  union all
  select f.round_id, f.finished_at from datastream.rounds_by_id(array(
    select n.round_id from (select o.round_id, o.at from datastream.outbox o order by o.xid desc, o.round_id desc limit 10000) n
    where n.at >= timestamptz 'epoch' + $1::bigint * interval '1 microsecond')) f
  where f.finished_at < timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
) f
order by f.finished_at, f.round_id
