-- A stream is named by the slug of a game, and a round has the id of its game: both must be unique.
select 'warning' as status, format('%s games have the slug %s', count(*), g.slug) as says, 'give each game a unique slug' as remedy
from datastream.games g group by g.slug having count(*) > 1
union all
select 'failed', format('%s games of several tables have the id %s, so their rounds are mixed', count(*), g.id), 'detach one of the tables, or give its games other ids'
from datastream.games g group by g.id having count(*) > 1
union all
select 'warning', 'there are no games, so clients cannot subscribe to one', 'insert games'
where not exists (select from datastream.games) and exists (select from datastream.attached)
