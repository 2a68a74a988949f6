-- The content of these rounds, in the given order, up to $4 bytes.
-- $1 integer[]: attachments   $2 bigint[]: round_id   $3 text[]: round_key, as the outbox has them   $4 bigint: bytes of extras
-- Columns: as rounds_by_id.sql, and cut boolean. If it is true, the rounds before have $4 bytes, and this row has no extras: the
--          client requests these rounds again.
-- A round that is missing in the answer was deleted, or is unfinished again.
select f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, case when coalesce(f.bytes, 0) < $4::bigint then f.extras end as extras,
       coalesce(f.bytes, 0) >= $4::bigint as cut
from (
  select r.attachment, r.round_id, r.round_key, r.game_id, r.game_key, r.game_slug, r.game_type, r.finished_at, n.place, l.extras,
         sum(octet_length(l.extras)) over (order by n.place rows between unbounded preceding and 1 preceding) as bytes
  from unnest($1::integer[], $2::bigint[], $3::text[]) with ordinality as n(attachment, round_id, round_key, place)
  -- Fenced: of tables that were never analyzed PostgreSQL would read all rows instead of one by its key.
  cross join lateral (select r.* from datastream.round_by_id(n.attachment, n.round_id, n.round_key) r offset 0) r
  cross join lateral (select case when octet_length(r.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
                           then r.extras end as extras) l
) f
order by f.place
