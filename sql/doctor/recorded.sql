-- Rounds that finished in the last ten minutes (without the last five seconds) are in the outbox: the triggers work. Only the
-- newest 100,000 rows of the outbox are read, and no earlier rounds are checked.
, newest as materialized (
  select b.attachment, b.round_id, b.round_key, b.at from datastream.outbox b order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc limit 100000
), since as (
  select greatest(now() - interval '10 minutes', (select max(a.attached_at) from datastream.attached a), (select t.at from datastream.trimmed t),
                  (select min(n.at) from newest n having count(*) = 100000)) as at,
         -- Here, because PostgreSQL does not inline a function with a volatile argument, and would read slugs.
         clock_timestamp() - interval '5 s' as until
)
select case when count(*) = 0 then 'ok' else 'warning' end as status,
       case when count(*) = 0 then 'all rounds of the last ten minutes are in the outbox'
            else count(*) || ' rounds of the last ten minutes are not in the outbox, such as ' || min(coalesce(f.round_key, f.round_id::text)) end as says,
       'check PostgreSQL''s log for warnings of datastream; a running serve finds these rounds within a minute' as remedy
from datastream.attached_games g
cross join since s
cross join lateral datastream.rounds_of(g.game_id, g.game_key, s.until, null, null, s.at, 10000) f
where not exists (select from newest n where n.attachment = f.attachment and n.round_id = coalesce(f.round_id, 0) and n.round_key = coalesce(f.round_key, ''))
