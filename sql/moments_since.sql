-- The rounds that finished at a time or later, by the game's clock: at most 10,000 of each game. Also rounds with an earlier
-- finished_at that were recorded since, among the newest 10,000 outbox rows. After a failover the server recognizes by them
-- the rounds from before its start. 40,000 rounds take 0.1 s.
-- $1 bigint: microseconds since the epoch
-- Columns: attachment integer, round_id bigint, round_key text, finished_micros bigint; ordered by finished_at, then by id: numbers before strings.
select f.attachment, f.round_id, f.round_key, datastream.micros(f.finished_at) as finished_micros
from (
  select f.attachment, f.round_id, f.round_key, f.finished_at from datastream.attached_games g
  cross join lateral datastream.rounds_of(g.game_id, g.game_key, timestamptz '10000-01-01 00:00:00+00', null, null,
    timestamptz 'epoch' + $1::bigint * interval '1 microsecond', 10000) f
  union all
  select f.attachment, f.round_id, f.round_key, f.finished_at from (
    select n.attachment, array_agg(n.round_id) as ids, array_agg(n.round_key) as keys from (
      select o.attachment, o.round_id, o.round_key, o.at from datastream.outbox o order by o.xid desc, o.attachment desc, o.round_id desc, o.round_key desc limit 10000) n
    where n.at >= timestamptz 'epoch' + $1::bigint * interval '1 microsecond' group by n.attachment) n
  cross join lateral datastream.rounds_by_id(n.attachment, n.ids, n.keys) f
  where f.finished_at < timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
) f
order by f.finished_at, coalesce(f.round_key, '') collate "C", f.round_id
