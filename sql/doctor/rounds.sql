-- Rounds that cannot be sent: their id or finished_at has no text on the wire, their extras are longer than the setting
-- datastream.max_round (1 MiB by default), or the game lacks a slug or a type that UTF-8 can hold. Not those that PostgreSQL cannot read.
, checked as materialized (
  select n.attachment, n.round_id, n.round_key,
         case when f.finished_at < timestamptz '0001-01-01 00:00:00+00' or f.finished_at >= timestamptz '10000-01-01 00:00:00+00'
                then 'finished_at is out of range'
              when f.game_slug is null or f.game_type is null then 'UTF-8 lacks a character of the game''s slug or type'
              when octet_length(f.extras) > coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
                then 'longer than DATASTREAM_MAX_ROUND' end as reason
  from newest n
  cross join lateral datastream.round_by_id(n.attachment, n.round_id, n.round_key) f
  union all
  select -n.attachment, n.round_id, n.round_key, 'the id is empty, longer than 200 bytes, not whole, or has characters that cannot be sent'
  from newest n where n.attachment < 0
)
select 'warning' as status,
       format('%s finished rounds cannot be sent (%s), such as %s of %s', count(*), f.reason,
              min(coalesce(nullif(f.round_key, ''), f.round_id::text)), min(a.relation::text)) as says,
       'correct these rounds, or set DATASTREAM_MAX_ROUND; serve skips them' as remedy
from checked f join datastream.attached a on a.id = f.attachment
where f.reason is not null
group by f.reason
