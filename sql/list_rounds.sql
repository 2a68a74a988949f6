-- The content of listed rounds, in their order, up to so many bytes.
-- $1 integer[]: attachments   $2 bigint[]: round_id   $3 text[]: round_key, as the outbox has them   $4 bigint: bytes of extras
-- Columns: as rounds_by_id.sql. `extras` is null once the rounds before have $4 bytes: the client asks for these rounds again.
-- A round that is missing in the answer was deleted, or is unfinished again.
select f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, case when coalesce(f.bytes, 0) < $4::bigint then f.extras end as extras
from (
  select r.*, n.place,
         sum(octet_length(r.extras)) over (order by n.place rows between unbounded preceding and 1 preceding) as bytes
  from unnest($1::integer[], $2::bigint[], $3::text[]) with ordinality as n(attachment, round_id, round_key, place)
  -- Fenced: of tables that were never analyzed PostgreSQL would read all rows instead of one by its key.
  cross join lateral (select r.* from datastream.rounds_by_id(n.attachment, array[n.round_id], array[n.round_key]) r offset 0) r
) f
order by f.place
