-- Rounds that finished at a moment or later, by the game's clock, at most 100,000 of each game, and those
-- of older moments that were recorded since, among the newest 100,000 of the outbox. For a database that
-- came back with another history (failover, restore), where transaction ids say nothing.
-- $1 bigint: microseconds since the epoch
-- Columns: as rounds_by_id.sql; ordered by finished_at, round_id.
select f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from (
  select f.* from datastream.games g
  cross join lateral datastream.rounds_of(g.id, timestamptz '10000-01-01 00:00:00+00', 0,
    timestamptz 'epoch' + $1::bigint * interval '1 microsecond', 100000) f
  union all
  select f.* from datastream.rounds_by_id(array(
    select n.round_id from (select o.round_id, o.at from datastream.outbox o order by o.xid desc, o.round_id desc limit 100000) n
    where n.at >= timestamptz 'epoch' + $1::bigint * interval '1 microsecond')) f
  where f.finished_at < timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
) f
order by f.finished_at, f.round_id
