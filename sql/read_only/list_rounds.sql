-- As list_rounds.sql.
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, {game:id} as game_id, {game:key} as game_key, f.game_slug, f.game_type,
       (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, case when coalesce(f.bytes, 0) < $4::bigint and octet_length(f.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576) then f.extras end as extras,
       coalesce(f.bytes, 0) >= $4::bigint as cut
from (
  select f.*, n.place,
         sum(octet_length(f.extras)) over (order by n.place rows between unbounded preceding and 1 preceding) as bytes
  from unnest($1::integer[], $2::bigint[], $3::text[]) with ordinality as n(attachment, round_id, round_key, place)
  join datastream_finished f on {round:named}
) f
order by f.place
