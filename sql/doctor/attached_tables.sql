-- Common table expressions of the other files. `attached`: the attached tables with their oids, found without a right on
-- their schemas, which the reader does not have. `again`: the command that attaches each with the current names. Renamed
-- objects are found by the dependencies of our triggers and views.
with named as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f')
), reads as (  -- the tables and columns that the views read
  select a.id, r.ev_class as view, d.refobjid as oid, d.refobjsubid as attnum
  from datastream.attached a
  join pg_rewrite r on r.ev_class in (to_regclass('datastream.rounds_' || a.id), to_regclass('datastream.games'))
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.deptype = 'n'
  join pg_class c on c.oid = d.refobjid and c.relnamespace <> 'datastream'::regnamespace
), moved as (  -- the table of our trigger, and the other table that the view reads
  select a.id, t.tgrelid as oid, g.oid as games
  from datastream.attached a
  left join pg_trigger t on t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)) and t.tgparentid = 0
  left join lateral (select case when count(distinct d.refobjid) = 1 then min(d.refobjid) end as oid
    from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    where r.ev_class = to_regclass('datastream.rounds_' || a.id) and d.refobjid not in (r.ev_class, t.tgrelid)) g on true
), found as (
  select a.*, t.oid, g.oid as games, coalesce(t.oid, m.oid) as oid_now, coalesce(g.oid, m.games) as games_now
  from datastream.attached a
  left join named t on t.name = a.relation
  left join named g on g.name = a.options->>'games'
  left join moved m on m.id = a.id
), columns as (  -- that the options name
  select a.id, o.key, o.place, o.name, t.oid,
         exists (select from pg_attribute c where c.attrelid = t.oid and c.attname = o.name and c.attnum > 0 and not c.attisdropped) as is_there
  from found a
  cross join lateral (
    select e.key, 1::bigint as place, e.value #>> '{}' as name from jsonb_each(a.options) e
    where e.key in ('id', 'finished_at', 'extras', 'game_id', 'slug_column', 'type_column', 'games_id', 'games_slug', 'games_name', 'games_type')
    union all
    select 'extras_columns', c.place, c.name from jsonb_array_elements_text(a.options->'extras_columns') with ordinality as c(name, place)) o
  join lateral (select case when o.key ~ '^games_' then a.games_now else a.oid_now end) as t(oid) on t.oid is not null
), renamed as (  -- if one column is missing: the single column that the view reads and no option names
  select c.id, c.oid, min(r.name) as name
  from columns c
  join lateral (select t.attname as name from reads r join pg_attribute t on t.attrelid = r.oid and t.attnum = r.attnum
    where r.id = c.id and r.oid = c.oid
      and not exists (select from columns o where o.id = c.id and o.oid = c.oid and o.name = t.attname)) r on true
  where not c.is_there
  group by c.id, c.oid having count(distinct r.name) = 1 and count(distinct c.name) = 1
), named_now as (
  select c.*, case when c.is_there then c.name else coalesce(r.name, 'NEW NAME OF ' || c.name) end as now
  from columns c left join renamed r on r.id = c.id and r.oid = c.oid
), words as (  -- the options of `datastream attach`
  select a.id, 'table' as key, coalesce(n.name, a.relation) as value from found a left join named n on n.oid = a.oid_now
  union all
  select a.id, 'games', coalesce(n.name, a.options->>'games') from found a left join named n on n.oid = a.games_now where a.options ? 'games'
  union all
  select c.id, c.key, string_agg(c.now, ',' order by c.place) from named_now c group by c.id, c.key
  union all
  select a.id, e.key, e.value #>> '{}' from found a cross join jsonb_each(a.options) e where e.key in ('time_zone', 'game_id_value', 'slug', 'type')
  union all
  select a.id, 'capture', a.capture from datastream.attached a
), attached as (
  select a.*, format('%s%s',
    (select 'datastream attach' || string_agg(format(' --%s%s%s', replace(w.key, '_', '-'), case when w.value like '-%' then '=' else ' ' end,
              -- Quoted for a shell.
              case when w.key <> 'table' and w.value ~ '^[[:alnum:]_.,/+-]+$' then w.value else '''' || replace(w.value, '''', '''\''''') || '''' end), ''
            order by array_position('{table,id,finished_at,time_zone,extras,extras_columns,game_id,game_id_value,games,games_id}'::text[], w.key), w.key)
     from words w where w.id = a.id and not '{"id": "id", "finished_at": "finished_at", "time_zone": "UTC", "extras": "extras", "game_id": "game_id",
       "games": "public.games", "games_id": "id", "games_slug": "slug", "games_name": "name", "games_type": "type", "capture": "auto"}'::jsonb
       @> jsonb_build_object(w.key, w.value)),
    case when a.games_now is distinct from a.games or exists (select from columns c where c.id = a.id and not c.is_there) then ' --replace' end) as again
  from found a
)
