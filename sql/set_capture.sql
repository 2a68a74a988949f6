-- Attaches an attached table again with another capture mode and its other options unchanged. Returns the statements, or no
-- row if no change is needed.
-- $1 text: the table   $2 text: auto, notify or poll   $3 boolean: dry run
select statement
from datastream.attached a
cross join lateral (select a.options as o) as options
cross join lateral datastream.attach(
  a.relation::regclass,
  capture => $2,
  replace => true,
  dry_run => $3,
  id => o->>'id',
  finished_at => o->>'finished_at',
  extras => o->>'extras',
  extras_columns => (select array_agg(e.name order by e.n) from jsonb_array_elements_text(o->'extras_columns') with ordinality as e(name, n)),
  game_id => o->>'game_id',
  game_id_value => (o->>'game_id_value')::bigint,
  games => (o->>'games')::regclass,
  games_id => o->>'games_id',
  games_slug => o->>'games_slug',
  games_name => o->>'games_name',
  games_type => o->>'games_type',
  slug_column => o->>'slug_column',
  type_column => o->>'type_column',
  slug => o->>'slug',
  type => o->>'type',
  time_zone => o->>'time_zone'
) as statement
where a.relation = $1
