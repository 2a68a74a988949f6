-- The length of the extras of these rounds, as rounds_by_id.sql has them. For a replay in which one round cannot be read.
-- $1 integer[]: attachments   $2 bigint[]: round_id   $3 text[]: round_key
-- Columns: attachment integer, round_id bigint, round_key text, game_type text, extras_bytes bigint; in no order.
select f.attachment, f.round_id, f.round_key, f.game_type, octet_length(f.extras)::bigint as extras_bytes
from (
  select n.attachment, array_agg(n.round_id) as ids, array_agg(n.round_key) as keys
  from unnest($1::integer[], $2::bigint[], $3::text[]) as n(attachment, round_id, round_key)
  group by n.attachment
) n
cross join lateral datastream.rounds_by_id(n.attachment, n.ids, n.keys) f
