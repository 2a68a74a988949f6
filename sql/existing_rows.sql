-- Those of these rounds that exist, finished or not. For rounds that rounds_by_id.sql did not find.
-- $1 integer[]: attachments   $2 bigint[]: round_id   $3 text[]: round_key, as the outbox has them
-- Columns: attachment integer, round_id bigint (null if the id is a string), round_key text (null if it is a number), is_finished boolean
--          (true: rounds_by_id.sql did not find it because it has no game).
select f.attachment, f.round_id, f.round_key, f.is_finished
from (
  select n.attachment, array_agg(n.round_id) as ids, array_agg(n.round_key) as keys
  from unnest($1::integer[], $2::bigint[], $3::text[]) as n(attachment, round_id, round_key)
  group by n.attachment
) n
cross join lateral datastream.existing_rows(n.attachment, n.ids, n.keys) f
