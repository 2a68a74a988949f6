-- Attaches a table, or with $20 only computes the statements. Returns the statements, or no row if no change is needed.
-- $1 text: the table as an SQL identifier   $2-$17: the parameters of datastream.attach
-- $18 text: capture   $19 boolean: replace   $20 boolean: dry run
select statement
from (select $1::text::regclass as relation) as wanted
cross join lateral datastream.attach(
  wanted.relation,
  id => $2, finished_at => $3, extras => $4, extras_columns => $5,
  game_id => $6, game_id_value => $7,
  games => $8::text::regclass, games_id => $9, games_slug => $10, games_name => $11, games_type => $12,
  slug_column => $13, type_column => $14, slug => $15, type => $16,
  time_zone => $17,
  capture => $18,
  replace => $19,
  dry_run => $20
) as statement
