-- The keys of finished rounds of some games, newest first: by finished_at, then by id: numbers by value, before strings by bytes.
-- $1 bigint[]: ids of games that are numbers   $2 text[]: ids of games that are strings
-- $3 bigint: a moment in microseconds since the epoch, or null for the newest rounds   $4 bigint, $5 text: with it, a round's id, a
-- number or a string (the other is null): only rounds that come after this place
-- $6 bigint: how many
-- Columns: attachment integer, round_id bigint (null if the id is a string), round_key text (null if it is a number),
--          finished_micros bigint.
-- No round that is asked for is older than `oldest`: as many rounds are newer among the first few of each game. So a page costs a
-- few steps down each game's seed index and about as many keys again as it has (100 keys of 40 games: 300 rows instead of 4,000).
-- No content is read.
with place as materialized (
  select coalesce(datastream.moment_of($3::bigint), timestamptz '10000-01-01 00:00:00+00') as newest
), game as materialized (
  select n.id as game_id, null as game_key from unnest($1::bigint[]) n(id)
  union all
  select null, t.key from unnest($2::text[]) t(key)
), few as materialized (
  select case when count(*) > 1 then ($6::bigint + count(*) - 1) / count(*) else 1 end as rounds from game
), first as materialized (
  select g.game_id, g.game_key, f.finished_at
  from place p cross join few cross join game g
  cross join lateral (select r.finished_at from datastream.rounds_of(g.game_id, g.game_key, p.newest, $4::bigint, $5::text,
    timestamptz '0001-01-01 00:00:00+00', few.rounds) r) f
), oldest as materialized (
  select coalesce((select f.finished_at from first f order by f.finished_at desc offset $6::bigint - 1 limit 1),
    timestamptz '0001-01-01 00:00:00+00') as finished_at
), newer as materialized (
  select distinct f.game_id, f.game_key from first f cross join oldest o where f.finished_at >= o.finished_at
)
select f.attachment, f.round_id, f.round_key, datastream.micros(f.finished_at) as finished_micros
from place p cross join oldest o cross join newer g
cross join lateral (select r.attachment, r.round_id, r.round_key, r.finished_at from datastream.rounds_of(g.game_id, g.game_key, p.newest, $4::bigint, $5::text,
  o.finished_at, $6::bigint) r) f
order by f.finished_at desc, coalesce(f.round_key, '') collate "C" desc, f.round_id desc
limit $6::bigint
