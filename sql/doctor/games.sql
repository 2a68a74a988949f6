-- Streams are named by slug, rounds find their game by id: both must be of one game only.
select 'warning' as status, format('%s games have the slug %s', count(*), g.slug) as says, 'give each game a slug of its own' as remedy
from datastream.games g group by g.slug having count(*) > 1
union all
select 'failed', format('%s games of several tables have the id %s: their rounds are mixed up', count(*), g.id), 'detach one of the tables, or give its games other ids'
from datastream.games g group by g.id having count(*) > 1
union all
select 'warning', 'there are no games: nobody can subscribe to one', 'insert games'
where not exists (select from datastream.games) and exists (select from datastream.attached)
