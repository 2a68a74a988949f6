-- The ids of finished rounds of some games, newest first: by finished_at, then by id (numbers by value, before strings by bytes).
-- $1 bigint[]: ids of games that are numbers   $2 text[]: ids of games that are strings
-- $3 bigint, $4 bigint, $5 text: a round, after which the list begins: its finished_at in microseconds since the epoch, and its id
-- as a number or as a string (the other is null). All are null for the newest rounds
-- $6 bigint: how many
-- Columns: attachment integer, round_id bigint (null if the id is a string), round_key text (null if it is a number),
--          finished_micros bigint.
-- `oldest` is a bound: among the first few rounds of each game, $6 rounds are not older. So no older round is part of the answer.
-- PostgreSQL then descends each game's seed index, and reads about three times as many ids as it returns. For 100 ids of 40 games
-- it reads 300 rows instead of 4,000. It reads no content.
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
