-- Warnings about attached tables and their games. Reads the tables of games only.
-- $1 text: the table, null for all
-- Columns: warning text.
--
-- A megabyte has about 13,000 small rounds. Without the index, reading 2 million rounds takes 70 to 100 ms for each game.
select pg_catalog.format('no index for the latest round of a game on %s: each start of the server and each reconciliation (once a minute) read the whole table once for each game. '
  'Build it without blocking the game: datastream attach --table %1$L ... --index (with the options that it is attached with)', a.relation) as warning
from datastream.attached a
where ($1::text is null or a.relation = $1)
  and case when (select sum(pg_relation_size(t.oid)) from (select to_regclass(a.relation)::oid union select p.relid from pg_partition_tree(to_regclass(a.relation)) p) t(oid)) > 1048576
      then exists (select from datastream.index_sql(to_regclass(a.relation))) end
union all
select pg_catalog.format('games of two attached tables have the same id %s: their rounds are mixed. Give one of them another id.', coalesce(g.game_id::text, g.game_key))
from datastream.attached_games g
where (select bool_and(a.options ? 'games' or a.options ?& '{slug,type}') from datastream.attached a)
group by g.game_id, g.game_key having count(*) > 1
union all
select pg_catalog.format('%s games have the slug %s: a stream of that slug has the rounds of one of them. Make slugs unique.', count(*), g.slug)
from datastream.attached_games g
where (select bool_and(a.options ? 'games' or a.options ?& '{slug,type}') from datastream.attached a)
  and g.slug is not null
group by g.slug having count(*) > 1
