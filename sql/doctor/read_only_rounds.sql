-- As rounds.sql. Each part looks at the newest rounds only.
, checked as materialized (
  select coalesce({round:key}, {round:id}::text) as id,
         case when f.game_slug is null or f.game_type is null then 'UTF-8 lacks a character of the game''s slug or type'
              when octet_length(f.extras) > coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
                then 'longer than DATASTREAM_MAX_ROUND' end as reason
  from newest n join datastream_finished f on {round:named}
  union all
  (select coalesce({round:shown}, {round:id}::text), 'finished_at is out of range' from datastream_rounds f
   where f.finished_at < timestamptz '0001-01-01 00:00:00+00' order by f.finished_at limit 1000)
  union all
  (select coalesce({round:shown}, {round:id}::text), 'finished_at is out of range' from datastream_rounds f
   where f.finished_at >= timestamptz '10000-01-01 00:00:00+00' order by f.finished_at desc limit 1000)
  union all
  (select {round:shown}, 'UTF-8 lacks a character of the id' from datastream_rounds f
   where f.finished_at < timestamptz '10000-01-01 00:00:00+00' and not ({round:is_text}) order by f.finished_at desc limit 1000)
)
select 'warning' as status,
       format('%s finished rounds cannot be sent (%s), such as %s of DATASTREAM_READ_ONLY_ROUNDS', count(*), f.reason, min(f.id)) as says,
       'correct these rounds, or set DATASTREAM_MAX_ROUND; serve skips them' as remedy
from checked f
where f.reason is not null
group by f.reason
