-- Rounds that cannot be sent: their extras are longer than the setting datastream.max_round (1 MiB by default), or the game has no
-- slug or no type that UTF-8 can hold. Other queries find the rounds that PostgreSQL cannot read, and those whose id or
-- finished_at cannot be sent.
, checked as materialized (
  select n.attachment, n.round_id, n.round_key,
         case when f.game_slug is null or f.game_type is null then 'the game has no slug or no type, or UTF-8 lacks a character of it'
              when octet_length(f.extras) > coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
                then 'longer than DATASTREAM_MAX_ROUND' end as reason
  from newest n
  cross join lateral datastream.round_by_id(n.attachment, n.round_id, n.round_key) f
)
select 'warning' as status,
       format('%s finished rounds cannot be sent (%s), such as %s of %s', count(*), f.reason,
              min(coalesce(nullif(f.round_key, ''), f.round_id::text)), min(a.relation::text)) as says,
       'correct these rounds, or set DATASTREAM_MAX_ROUND; serve skips them' as remedy
from checked f join datastream.attached a on a.id = f.attachment
where f.reason is not null
group by f.reason
