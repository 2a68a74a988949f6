-- The keys of finished rounds of some games, newest first: by finished_at, then by id: numbers by value, before strings by bytes.
-- $1 bigint[]: ids of games that are numbers   $2 text[]: ids of games that are strings
-- $3 bigint: a moment in microseconds since the epoch, or null for the newest rounds   $4 bigint, $5 text: with it, a round's id, a
-- number or a string (the other is null): only rounds that come after this place
-- $6 bigint: how many
-- Columns: attachment integer, round_id bigint (null if the id is a string), round_key text (null if it is a number),
--          finished_micros bigint.
-- The first $6 rounds are of the $6 games whose first round comes first, and none is older than the last of these. So a game
-- costs one step down its seed index, and each game that counts its newest keys. No content is read.
with place as materialized (
  select coalesce(datastream.moment_of($3::bigint), timestamptz '10000-01-01 00:00:00+00') as newest
), game as (
  select n.id as game_id, null as game_key from unnest($1::bigint[]) n(id)
  union all
  select null, t.key from unnest($2::text[]) t(key)
), first as materialized (
  select g.game_id, g.game_key, f.finished_at
  from place p cross join game g
  cross join lateral (select r.finished_at, r.round_id, r.round_key from datastream.rounds_of(g.game_id, g.game_key, p.newest, $4::bigint, $5::text,
    timestamptz '0001-01-01 00:00:00+00', 1) r) f
  order by f.finished_at desc, coalesce(f.round_key, '') collate "C" desc, f.round_id desc
  limit $6::bigint
), oldest as materialized (
  select case when count(*) = $6::bigint then min(f.finished_at) else timestamptz '0001-01-01 00:00:00+00' end as finished_at from first f
)
select f.attachment, f.round_id, f.round_key, datastream.micros(f.finished_at) as finished_micros
from place p cross join oldest o cross join first g
cross join lateral (select r.attachment, r.round_id, r.round_key, r.finished_at from datastream.rounds_of(g.game_id, g.game_key, p.newest, $4::bigint, $5::text,
  o.finished_at, $6::bigint) r) f
order by f.finished_at desc, coalesce(f.round_key, '') collate "C" desc, f.round_id desc
limit $6::bigint
