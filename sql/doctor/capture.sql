-- The capture mode, and the rate of rounds. In mode `notify`, commits that finish rounds wait for one lock, each for the
-- time of a flush.
select case when m.notify and r.rounds > 60 * 200 then 'warning' else 'ok' end as status,
       format('capture is %s; %s rounds in the last minute', coalesce(m.modes, 'not set'), r.rounds) as says,
       E'set capture to auto: above about 200 rounds a second, NOTIFY for each round slows the game:\ndatastream migrate --capture auto' as remedy
from (select string_agg(distinct a.capture, ', ') as modes, bool_or(a.capture = 'notify') as notify from datastream.attached a) m,
     (select count(*) as rounds from (select o.at from datastream.outbox o order by o.xid desc, o.attachment desc, o.round_id desc, o.round_key desc limit 100000) o
      where o.at > clock_timestamp() - interval '1 minute') r
