-- A page of a game's finished rounds, newest first.
-- $1 bigint, $2 text: the game's id, a number or a string (the other is null)
-- $3 bigint, $4 text: a round's id likewise, exclusive; both null for the first page
-- $5 bigint: how many
-- No rows where the round that was named does not exist or is not finished.
-- Columns: as rounds_by_id.sql; newest first, by finished_at, then by id: numbers by value, before strings by bytes.
select f.attachment, f.round_id, f.round_key, f.game_id, f.game_key, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from (
  select b.finished_at, b.round_id, b.round_key from datastream.rounds_by_id(null, array[$3::bigint], array[$4::text]) b
  union all
  select timestamptz '10000-01-01 00:00:00+00', null, null where $3::bigint is null and $4::text is null
) page
cross join lateral datastream.rounds_of($1::bigint, $2::text, least(page.finished_at, timestamptz '10000-01-01 00:00:00+00'), page.round_id, page.round_key,
  timestamptz '0001-01-01 00:00:00+00', $5::bigint) f
order by f.finished_at desc, coalesce(f.round_key, '') collate "C" desc, f.round_id desc
