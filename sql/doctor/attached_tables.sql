-- Common table expressions of the other files. `attached`: the attached tables with their oids, found without any right on
-- their schemas, because the reader has none. `again`: the command that attaches each with the current names. It finds
-- renamed objects by the dependencies of our triggers and views.
with views(name) as (  -- the last two are those of an earlier text of the migrations, which `migrate` reads too
  values ('datastream.attached_%s_rounds'), ('datastream.attached_games'), ('datastream.rounds_%s'), ('datastream.games')
), named as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f')
), reads as (  -- the tables and columns that the views read
  select a.id, r.ev_class as view, d.refobjid as oid, d.refobjsubid as attnum
  from datastream.attached a
  join pg_rewrite r on r.ev_class in (select to_regclass(format(v.name, a.id)) from views v)
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.deptype = 'n'
  join pg_class c on c.oid = d.refobjid and c.relnamespace <> 'datastream'::regnamespace
), moved as (  -- the table of our trigger, and the other table that the view reads
  select a.id, t.tgrelid as oid, g.oid as games
  from datastream.attached a
  left join pg_trigger t on t.tgfoid = to_regprocedure(format('datastream.inserted_%s()', a.id)) and t.tgparentid = 0
  left join lateral (select case when count(distinct d.refobjid) = 1 then min(d.refobjid) end as oid
    from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    where r.ev_class in (select to_regclass(format(v.name, a.id)) from views v where v.name ~ '%') and d.refobjid not in (r.ev_class, t.tgrelid)) g on true
), found as (
  select a.*, t.oid, g.oid as games, coalesce(t.oid, m.oid) as oid_now, coalesce(g.oid, m.games) as games_now
  from datastream.attached a
  left join named t on t.name = a.relation
  left join named g on g.name = a.options->>'games'
  left join moved m on m.id = a.id
), columns as (  -- that the options name
  select a.id, o.option as key, o.place, o.name, t.oid,
         exists (select from pg_attribute c where c.attrelid = t.oid and c.attname = o.name and c.attnum > 0 and not c.attisdropped) as is_there
  from found a
  cross join lateral (
    select e.key as option, coalesce(c.place, 1) as place, coalesce(c.name, e.value #>> '{}') as name
    from jsonb_each(a.options) e
    left join lateral jsonb_array_elements_text(case when jsonb_typeof(e.value) = 'array' then e.value else '[]' end) with ordinality as c(name, place) on true
    where e.key in ('id', 'finished_at', 'finished_columns', 'extras', 'extras_columns', 'game_id', 'slug_column', 'type_column', 'games_id', 'games_slug', 'games_name', 'games_type')) o
  join lateral (select case when o.option ~ '^games_' then a.games_now else a.oid_now end) as t(oid) on t.oid is not null
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
  select c.id, c.key, string_agg(c.now, ',' order by c.place) from named_now c where c.key <> 'finished_columns' group by c.id, c.key
  union all
  select a.id, e.key, e.value #>> '{}' from found a cross join jsonb_each(a.options) e where e.key in ('time_zone', 'finished_at_unit', 'id_prefix', 'game_id_value', 'slug', 'type')
  union all
  select a.id, 'finished_when', replace(a.options->>'finished_when', 'datastream_row.', '') from found a where a.options ? 'finished_when'
  union all
  select a.id, 'id_text', '' from found a where a.options ? 'id_text'
  union all
  select a.id, 'capture', a.capture from datastream.attached a
), attached as (
  select a.*, format('%s%s',
    (select 'datastream attach' || string_agg(format(' --%s%s%s', replace(w.key, '_', '-'), case when w.value like '-%' then '=' when w.key = 'id_text' then '' else ' ' end,
              -- Quoted for a shell.
              case when w.key = 'id_text' or w.key <> 'table' and w.value ~ '^[[:alnum:]_.,/+-]+$' then w.value else '''' || replace(w.value, '''', '''\''''') || '''' end), ''
            order by array_position('{table,id,id_prefix,id_text,finished_at,finished_at_unit,time_zone,finished_when,extras,extras_columns,game_id,game_id_value,games,games_id}'::text[], w.key), w.key)
     from words w where w.id = a.id and not '{"id": "id", "finished_at": "finished_at", "time_zone": "UTC", "extras": "extras", "game_id": "game_id",
       "games": "public.games", "games_id": "id", "games_slug": "slug", "games_name": "name", "games_type": "type", "capture": "auto"}'::jsonb
       @> jsonb_build_object(w.key, w.value)),
    case when a.games_now is distinct from a.games or exists (select from columns c where c.id = a.id and not c.is_there) then ' --replace' end) as again
  from found a
)
