-- The finished rounds of these outbox rows, in no order.
-- $1 integer[]: attachments, null for any table   $2 bigint[]: round_id   $3 text[]: round_key, as the outbox has them. A round that is missing in the
-- answer was deleted, or is unfinished again.
-- Columns: attachment integer, round_id bigint (null if the id is a string), round_key text (null if it is a number), game_id bigint,
--          game_key text likewise, game_slug text, game_type text, finished_micros bigint (null: infinity), extras text (null: longer than the
--          setting datastream.max_round, so the server need not read 20 MB to skip them).
select f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros,
       case when octet_length(f.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
            then f.extras end as extras
from (
  select n.attachment, array_agg(n.round_id) as ids, array_agg(n.round_key) as keys
  from unnest($1::integer[], $2::bigint[], $3::text[]) as n(attachment, round_id, round_key)
  group by n.attachment
) n
cross join lateral datastream.rounds_by_id(n.attachment, n.ids, n.keys) f
