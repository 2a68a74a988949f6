-- Clients select a stream by a game's slug, and a round has the id of its game. So both must be unique.
select 'warning' as status, format('%s games have the slug %s', count(*), g.slug) as says, 'give each game a unique slug' as remedy
from datastream.attached_games g where g.slug is not null and g.type is not null group by g.slug having count(*) > 1
union all
select 'failed', format('%s games of several tables have the id %s, so their rounds are mixed', count(*), coalesce(g.game_id::text, g.game_key)), 'detach one of the tables, or give its games other ids'
from datastream.attached_games g group by g.game_id, g.game_key having count(*) > 1
union all
select 'warning', 'there are no games, so clients cannot subscribe to one', 'insert games'
where not exists (select from datastream.attached_games) and exists (select from datastream.attached)
