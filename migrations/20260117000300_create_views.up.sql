-- The functions that generate the views and functions by which the server reads attached tables.

set local lock_timeout = '2s';

-- The name of the function of a condition that may raise an error. Another condition has another name, so that both exist while
-- a table is attached in another way.
create function datastream.settled_name(options jsonb, number integer) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select format('settled_%s_%s', number, abs(hashtext(options->>'finished_when' || (options->>'finished_columns'))::bigint)) $$;

-- The finished condition of a row, which the triggers, the view, the index and reconciliation share. `named` is the row's name.
-- A condition that may raise an error is in a function that catches it, so that no write and no other round suffers.
create function datastream.finished_sql(options jsonb, number integer, named text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when options ? 'finished_may_fail' then format('datastream.%s(%s) and ', datastream.settled_name(options, number),
      array_to_string(array(select format('%s.%I', named, c) from jsonb_array_elements_text(options->'finished_columns') c), ', '))
    else coalesce('(' || replace(options->>'finished_when', 'datastream_row.', named || '.') || ') and ', '') end
    || format('%s.%I is not null', named, options->>'finished_at')
$$;

-- The function of such a condition. Its parameters have the names of the columns.
create function datastream.settled_sql(relation regclass, options jsonb, number integer) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with made as (
    select datastream.settled_name(options, number) as name, string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by c.place) as parameters
    from jsonb_array_elements_text(options->'finished_columns') with ordinality as c(name, place)
    join pg_attribute a on a.attrelid = relation and a.attname = c.name
    where options ? 'finished_may_fail'
  )
  select s.statement from made cross join lateral (values
    (format(E'create or replace function datastream.%1$s(%2$s) returns boolean\nlanguage plpgsql immutable security definer set search_path = pg_catalog, pg_temp\nas $datastream$\n'
      '#variable_conflict use_column\nbegin\n  return %3$s;\nexception when others then\n  return null;\nend\n$datastream$',
      made.name, made.parameters, replace(options->>'finished_when', 'datastream_row.', made.name || '.'))),
    -- The trigger's condition runs with the writer's rights, who may lack those on the functions of the condition; a null would
    -- then hide the round.
    (format('grant execute on function datastream.%s to public', made.name))) as s(statement)
  where made.parameters is not null
$$;

-- The id on the wire, of a table whose ids are strings, and a condition that is false if it cannot be sent: null if all can.
-- The condition runs for each written and each read round. So it looks at the columns, and at the whole id only if these may
-- be too long together.
create function datastream.key_sql(relation regclass, options jsonb, named text, out key text, out sendable text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with parts as (
    select i.place, c.kind, format(case c.kind when 'numeric' then 'pg_catalog.trim_scale(%1$s.%2$I)::pg_catalog.text' else '%1$s.%2$I::pg_catalog.text' end, named, i.name) as text,
      format('%s.%I', named, i.name) as value, case c.type when 'uuid'::regtype then 36 when 'bigint'::regtype then 20 when 'integer'::regtype then 11 when 'smallint'::regtype then 6 end as size
    from jsonb_array_elements_text(options->'id') with ordinality as i(name, place)
    cross join lateral (select datastream.column_type(relation, i.name) as type, datastream.id_kind(datastream.column_type(relation, i.name)) as kind) c
  ), id as (
    select concat_ws(' operator(pg_catalog.||) '':'' operator(pg_catalog.||) ', quote_literal(options->>'id_prefix') || '::pg_catalog.text', string_agg(p.text,
        ' operator(pg_catalog.||) '':'' operator(pg_catalog.||) ' order by p.place)) as key,
      count(*) = 1 as single, coalesce(bool_or(p.kind = 'numeric'), false) as has_numeric, coalesce(bool_or(p.kind = 'text'), false) as has_text,
      -- What is left of 200 bytes for a text or a numeric beside the longest values of the others.
      200 - coalesce(length(options->>'id_prefix') + 1, 0) - (count(*) - 1) - coalesce(sum(p.size), 0) as rest
    from parts p
  ), conditions as (
    -- NaN and infinity are beyond the bounds.
    select format('%1$s operator(pg_catalog.<) 1e%2$s and %1$s operator(pg_catalog.>) (-1e%3$s) and %1$s operator(pg_catalog.=) pg_catalog.trunc(%1$s)',
      p.value, case when id.single then id.rest else 200 end, case when id.single then id.rest else 200 end - 1) as condition
    from parts p cross join id where p.kind = 'numeric'
    union all
    select case when id.single then p.text || ' operator(pg_catalog.<>) '''' and ' else '' end || format('datastream.is_printable(%s)', p.text)
    from parts p cross join id where p.kind = 'text'
    union all
    select case when id.single then format('pg_catalog.octet_length(%s) operator(pg_catalog.<=) %s', p.text, id.rest)
      when id.has_numeric or id.rest <= 0 then format('pg_catalog.octet_length(%s) operator(pg_catalog.<=) 200', id.key)
      else format('(pg_catalog.octet_length(%s) operator(pg_catalog.<=) %s or pg_catalog.octet_length(%s) operator(pg_catalog.<=) 200)', p.text, id.rest, id.key) end
    from id left join parts p on p.kind = 'text'
    where id.has_text or id.has_numeric and not id.single or id.rest < 0
  )
  select nullif(id.key, ''), (select string_agg(c.condition, ' and ') from conditions c) from id
$$;

-- The columns of an attached table as SQL expressions. They read a row named `named` (the alias of the table or of the
-- transition table, or `new`) and a row `g` of the table of games. All names are qualified, because the trigger functions
-- run under the writer's search_path.
--
-- `payload` is the JSON text of a notification about one round. It is null if the round has no game, or if one column is too
-- large for a notification. (The trigger functions then check the length of the text.)
-- * The writer's settings decide how values are printed (TimeZone, IntervalStyle). Only notifications have this text.
-- * Extras in a text or varchar column become a JSON string. PostgreSQL before 16 cannot check, without an EXCEPTION block,
--   that a text is JSON.
-- * `format` is the fastest: 1.5 us, `concat` 1.8, `json_build_object` 1.9, `||` 2.0.
create function datastream.expressions(relation regclass, options jsonb, named text,
  out is_number boolean,                 -- whether ids are numbers on the wire
  out round_id text, out sendable text,  -- the number, or the string; a condition, null if all ids can be sent
  out finished_at text,                  -- timestamptz
  out extras text,
  out game text, out game_is_number boolean, out game_id text,  -- the column, null if constant; as on the wire
  out game_slug text, out game_type text, out payload text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  columns text[] := array(select jsonb_array_elements_text(options->'extras_columns'));
  finished text := format('%s.%I', named, options->>'finished_at');
  finished_type regtype := datastream.column_type(relation, options->>'finished_at');
  unit integer := case options->>'finished_at_unit' when 's' then 1000000 when 'ms' then 1000 else 1 end;
  value text;   -- of the extras, as the payload prints it
  large text;   -- a condition: a column alone is larger than a notification
begin
  is_number := datastream.has_numbers(relation, options);
  if is_number then
    round_id := format('%s.%I', named, options->'id'->>0);
  else
    select k.key, k.sendable into round_id, sendable from datastream.key_sql(relation, options, named) k;
  end if;
  finished_at := case
    when finished_type in ('timestamp'::regtype, 'date'::regtype) then format('datastream.moment(%L::pg_catalog.text, %s)', options->>'time_zone', finished)
    when finished_type in ('integer'::regtype, 'bigint'::regtype, 'numeric'::regtype) then format('datastream.moment_of(%s::pg_catalog.numeric, %s::bigint)', finished, unit)
    when finished_type = 'double precision'::regtype then format('datastream.moment_of(%s, %s::bigint)', finished, unit)
    else finished end;
  -- `extras` is one column, or an object of several. If jsonb may reject a value of one (a type that is made of others, or
  -- an unknown one), the object is built as json, for 3 us more.
  if options ? 'extras_columns' then
    select format(case when bool_or(t.typcategory in ('A', 'C', 'U') and t.oid not in ('jsonb'::regtype, 'uuid'::regtype, 'bytea'::regtype))
        then 'datastream.as_jsonb(pg_catalog.json_build_object(%s))' else 'pg_catalog.jsonb_build_object(%s)::pg_catalog.text' end,
      coalesce(string_agg(format('%L, %s.%I', name, named, name), ', ' order by ord), ''))
    into extras from jsonb_array_elements_text(options->'extras_columns') with ordinality as c(name, ord)
    left join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = name
    left join pg_catalog.pg_type t on t.oid = a.atttypid;
  else
    -- A cast of text that jsonb rejects fails the query, and the reader finds the row by halving.
    extras := format(case when datastream.column_type(relation, options->>'extras') = 'jsonb'::regtype then 'coalesce(%s.%I::pg_catalog.text, ''{}'')'
      else 'coalesce(%s.%I::pg_catalog.text::pg_catalog.jsonb::pg_catalog.text, ''{}'')' end, named, options->>'extras');
  end if;
  -- Each of the game's id, slug and type is in a column of the round, in a table of games, or the same for all rounds.
  -- (`||` with a null gives null, which `coalesce` skips; `format` does not.)
  game := named || '.' || quote_ident(options->>'game_id');
  game_is_number := case when game is not null then datastream.id_kind(datastream.column_type(relation, options->>'game_id')) = 'integer'
    else datastream.integer_of(options->>'game_id_value') is not null end;
  game_id := case when game is null and game_is_number then format('(%s)::bigint', options->>'game_id_value')
    when game is null then format('%L::pg_catalog.text', options->>'game_id_value')
    when game_is_number then game else game || '::pg_catalog.text' end;
  game_slug := coalesce(quote_literal(options->>'slug'), named || '.' || quote_ident(options->>'slug_column'),
    'g.' || quote_ident(options->>'games_slug')) || '::pg_catalog.text';
  game_type := coalesce(quote_literal(options->>'type'), named || '.' || quote_ident(options->>'type_column'),
    'g.' || quote_ident(options->>'games_type')) || '::pg_catalog.text';
  -- json, because jsonb rejects some values, and an error here would undo the outbox row.
  if options ? 'extras_columns' then
    select format('pg_catalog.json_build_object(%s)', coalesce(string_agg(format('%L, %s.%I', c.name, named, c.name), ', ' order by c.ord), ''))
    into value from unnest(columns) with ordinality as c(name, ord);
  else
    value := format(case when datastream.column_type(relation, options->>'extras') in ('json'::regtype, 'jsonb'::regtype)
      then 'coalesce(%s.%I, ''{}'')' else 'coalesce(pg_catalog.to_json(%s.%I::pg_catalog.text)::pg_catalog.text, ''{}'')' end, named, options->>'extras');
    columns := array[options->>'extras'];
  end if;
  -- PostgreSQL knows the stored size without reading the value. jsonb takes up to four times the bytes of its text: [1, 1, ...].
  select string_agg(format('pg_catalog.pg_column_size(%s.%I) operator(pg_catalog.>) %s or ', named, a.attname,
      case when datastream.column_type(relation, a.attname) = 'jsonb'::regtype then 32768 else 7904 end), '' order by a.attnum)
  into large from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attname = any (columns) and not a.attisdropped and a.attlen = -1 and a.atttypid <> 'numeric'::regtype;
  payload := format($sql$case when %5$s%2$s is null then null else pg_catalog.format('{"round_id":%%s,"game_id":%%s,"finished_at":%%s,"extras":%%s}',
          %1$s, %6$s, coalesce(pg_catalog.to_json(%3$s)::pg_catalog.text, 'null'), %4$s) end$sql$,
    case when is_number then round_id else format('pg_catalog.to_json(%s)::pg_catalog.text', round_id) end, game_id, finished_at, value, coalesce(large, ''),
    case when game_is_number then game_id else format('pg_catalog.to_json(%s)::pg_catalog.text', game_id) end);
end
$$;

-- A text, or null if UTF-8 lacks a character of it.
create function datastream.text_sql(value text) returns text
language sql stable
as $$ select case when pg_catalog.getdatabaseencoding() = 'UTF8' then value else pg_catalog.format('case when datastream.is_text(%1$s) then %1$s end', value) end $$;

-- A condition that most rows fulfil. Within CASE PostgreSQL expects that half of the rows do. Of several conditions that it knows
-- nothing of it expects one row in thousands, and then it reads the whole table instead of walking down the index (34 s against
-- 1 ms for 40 games in 300,000 rounds).
create function datastream.filter_sql(condition text) returns text
language sql immutable
as $$ select 'case when ' || condition || ' then true else false end' $$;

-- The view of one attached table, `datastream.attached_<id>_rounds`: finished rounds only, as they are on the wire. A slug or type that
-- UTF-8 cannot hold is null: such a round cannot be sent, and a query of others does not fail by it. No condition reads the slug or the
-- type: a game whose slug cannot be read would fail the queries of all rounds. `id_1` and so on, `game` and `finished` are the table's own columns: look-ups compare these, because an expression would keep PostgreSQL from using
-- the table's indexes.
create function datastream.view_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
begin
  return format('create view datastream.attached_%s_rounds as select %s, %s as round_id, %s as round_key, %s as game, %s as game_id, %s as game_key, '
      '%s as game_slug, %s as game_type, r.%I as finished, %s as finished_at, %s as extras from %s r', t.id,
      (select string_agg(format('r.%I as id_%s', i.name, i.place), ', ' order by i.place) from jsonb_array_elements_text(t.options->'id') with ordinality as i(name, place)),
      case when e.is_number then e.round_id || '::bigint' else 'null::bigint' end,
      case when e.is_number then 'null::pg_catalog.text' else format('(%s) collate pg_catalog."C"', e.round_id) end,
      coalesce(e.game, 'null::integer'), case when e.game_is_number then e.game_id || '::bigint' else 'null::bigint' end,
      case when e.game_is_number then 'null::pg_catalog.text' else e.game_id end, datastream.text_sql(e.game_slug), datastream.text_sql(e.game_type), t.options->>'finished_at', e.finished_at, e.extras, t.relation)
    || case when t.options ? 'games' then format(' join %s g on g.%I = %s', t.options->>'games', t.options->>'games_id', e.game) else '' end
    || format(' where %s', datastream.finished_sql(t.options, t.id, 'r')) || coalesce(' and ' || datastream.filter_sql(e.sendable), '')
    -- Nobody can subscribe to a game without an id.
    || coalesce(' and ' || e.game || ' is not null', '') || case when e.game_is_number or e.game is null then '' else ' and ' || datastream.filter_sql(format('datastream.is_key(%s)', e.game_id)) end;
end
$$;

-- The games of one attached table, with the table's own id as `game`. A game of a table of games may lack a slug or a type: no condition
-- reads these, so that the ids of all games can be read beside a slug that cannot. If the game is in the round, the games are those with a
-- finished round, as it was last. A recursive query then reads one entry of the seed index for each game; `select distinct`
-- would read the whole table.
create function datastream.games_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  e record := datastream.expressions(t.relation::regclass, t.options, 'r');
  latest text := format('select r.game, r.game_id, r.game_key, r.game_slug, r.game_type from datastream.attached_%s_rounds r '
    'where r.game_slug is not null and r.game_type is not null', t.id);
  named text := 'select game, game_id, game_key, game_slug as slug, game_slug as name, game_type as type from ';
begin
  if t.options ? 'games' then
    return format('select g.%1$I as game, %2$s as game_id, %3$s as game_key, %4$s as slug, coalesce(%5$s, %4$s) as name, %6$s as type from %7$s g '
      'where g.%1$I is not null%8$s', t.options->>'games_id',
      case when e.game_is_number then format('g.%I::bigint', t.options->>'games_id') else 'null::bigint' end,
      case when e.game_is_number then 'null::pg_catalog.text' else format('g.%I::pg_catalog.text', t.options->>'games_id') end,
      datastream.text_sql(e.game_slug), datastream.text_sql(format('g.%I::pg_catalog.text', t.options->>'games_name')), datastream.text_sql(e.game_type), t.options->>'games',
      case when e.game_is_number then '' else ' and ' || datastream.filter_sql(format('datastream.is_key(g.%I::pg_catalog.text)', t.options->>'games_id')) end);
  elsif e.game is not null then
    return named || format('(with recursive game as ((%1$s order by r.game, r.finished desc limit 1) union all '
      'select n.* from game cross join lateral (%1$s and r.game > game.game order by r.game, r.finished desc limit 1) n) select * from game) as beside', latest);
  elsif t.options ?& '{slug,type}' then
    return format('select null::integer as game, %1$s as game_id, %2$s as game_key, %3$s as slug, %3$s as name, %4$s as type',
      case when e.game_is_number then e.game_id else 'null::bigint' end, case when e.game_is_number then 'null::pg_catalog.text' else e.game_id end, e.game_slug, e.game_type);
  end if;
  return named || format('(%s order by r.finished desc limit 1) as beside', latest);
end
$$;

-- The columns that the reads return, from a row `r` of the view. The casts and collations make those of several tables equal.
create function datastream.returned_sql(number integer) returns text
language sql immutable
as $$
  select pg_catalog.format('%s as attachment, r.round_id, r.round_key collate "C" as round_key, r.game_id, r.game_key collate "default" as game_key, r.game_slug collate "default" as game_slug, '
    'r.game_type collate "default" as game_type, r.finished_at::timestamptz as finished_at, r.extras collate "default" as extras', number)
$$;

-- The collation of a text column, to be written after a value that is compared with it: by another one its index is of no use.
create function datastream.collation_sql(relation regclass, wanted text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select format(' collate %I.%I', n.nspname, l.collname)
    from pg_attribute a join pg_collation l on l.oid = a.attcollation join pg_namespace n on n.oid = l.collnamespace
    where a.attrelid = relation and a.attname = wanted and not a.attisdropped), '')
$$;

-- The conditions on a row `r` of the view for the round that `key` names, by the table's own columns. With several columns the key
-- is in `p.parts`, split at its colons and counted from both ends, as one of its parts at most has colons. If a column may equal
-- another spelling (the padding of char(n), a nondeterministic collation), the whole string is compared too.
create function datastream.equal_sql(t datastream.attached, key text, out is_named text, out equal text, out is_spelled text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  relation regclass := t.relation::regclass;
  number integer := jsonb_array_length(t.options->'id');
  before integer := case when t.options ? 'id_prefix' then 1 else 0 end;
  part text := key;
  text_at integer;
begin
  select i.place into text_at from jsonb_array_elements_text(t.options->'id') with ordinality as i(name, place)
  where datastream.id_kind(datastream.column_type(relation, i.name)) = 'text';
  if exists (select from jsonb_array_elements_text(t.options->'id') i(name)
    join pg_attribute a on a.attrelid = relation and a.attname = i.name left join pg_collation l on l.oid = a.attcollation
    where datastream.column_type(relation, i.name) = 'bpchar'::regtype or not coalesce(l.collisdeterministic, true)) then
    is_spelled := format('r.round_key = %s', key);
  end if;
  if number > 1 then
    is_named := format('pg_catalog.cardinality(p.parts) operator(pg_catalog.%s) %s', case when text_at is null then '=' else '>=' end, number + before)
      || coalesce(' and p.parts[1] operator(pg_catalog.=) ' || quote_literal(t.options->>'id_prefix'), '');
  elsif before = 1 then
    is_named := format('pg_catalog.starts_with(%s, %L)', key, t.options->>'id_prefix' || ':');
    part := format('pg_catalog.substr(%s, %s)', key, length(t.options->>'id_prefix') + 2);
  end if;
  select string_agg(format('r.id_%s = %s', c.place, format(case c.kind when 'integer' then 'datastream.integer_of(%s)' when 'numeric' then 'datastream.numeric_of(%s)' when 'uuid' then 'datastream.uuid_of(%s)'
      else case when c.type = 'bpchar'::regtype then '(%s)::pg_catalog.bpchar' else '(%s)' end || replace(datastream.collation_sql(relation, c.name), '%', '%%') end,
    case when number = 1 then part
      when c.place = text_at then format('pg_catalog.array_to_string(p.parts[%s : pg_catalog.cardinality(p.parts) operator(pg_catalog.-) %s], '':'')', text_at + before, number - text_at)
      when c.place > text_at then format('p.parts[pg_catalog.cardinality(p.parts) operator(pg_catalog.-) %s]', number - c.place)
      else format('p.parts[%s]', c.place + before) end)), ' and ' order by c.place)
  into equal
  from (select i.place, i.name, datastream.column_type(relation, i.name) as type, datastream.id_kind(datastream.column_type(relation, i.name)) as kind
    from jsonb_array_elements_text(t.options->'id') with ordinality as i(name, place)) c;
end
$$;

-- Ids of several columns and their parts. PostgreSQL does not inline a function with SET, and expects the one row of ROWS. So it looks
-- the rounds up by their index: if it expected many, it would read all rows of a table of some ten thousand instead.
create function datastream.split_keys(keys text[]) returns table (key text, parts text[])
language sql immutable rows 1 set search_path = pg_catalog, pg_temp
as $$ select k.key, string_to_array(k.key, ':') from unnest(keys) k(key) $$;

-- The rounds of a table that `ids` or `keys` name.
create function datastream.by_id_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  single boolean := jsonb_array_length(t.options->'id') = 1;
  e record := datastream.equal_sql(t, case when single then 'k.key' else 'p.key' end);
  view text := format('datastream.attached_%s_rounds r where (of_attachment is null or of_attachment = %1$s)', t.id);
begin
  if datastream.has_numbers(t.relation::regclass, t.options) then
    return format('select %s from %s and r.id_1 = any (ids)', datastream.returned_sql(t.id), view);
  elsif single then
    return format('select %s from %s and r.id_1 = any (array(select %s from unnest(keys) k(key)%s))%s', datastream.returned_sql(t.id), view,
      substr(e.equal, length('r.id_1 = ') + 1), coalesce(' where ' || e.is_named, ''), case when e.is_spelled is null then '' else ' and r.round_key = any (keys)' end);
  end if;
  return format('select %s from datastream.split_keys(keys) p cross join %s and %s', datastream.returned_sql(t.id), view,
    concat_ws(' and ', e.is_named, e.equal, e.is_spelled));
end
$$;

-- The round of a table that `id` or `key` names, of any table if `of_attachment` is null. For one value instead of an array PostgreSQL expects one row, and builds no hash
-- table of the games for it.
create function datastream.one_by_id_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  e record := datastream.equal_sql(t, 'key');
begin
  return format('select %s from %sdatastream.attached_%s_rounds r where (of_attachment is null or of_attachment = %3$s) and %s', datastream.returned_sql(t.id),
    case when jsonb_array_length(t.options->'id') > 1 then '(select pg_catalog.string_to_array(key, '':'') as parts offset 0) p cross join ' else '' end, t.id,
    case when datastream.has_numbers(t.relation::regclass, t.options) then 'r.id_1 = id' else concat_ws(' and ', e.is_named, e.equal, e.is_spelled) end);
end
$$;

-- A bound of `finished` for a moment. What it lets through beyond the moment, `finished_at` then excludes: a date stands for a
-- whole day, and a number may be finer than a microsecond.
create function datastream.bound_sql(relation regclass, options jsonb, moment text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format(case datastream.column_type(relation, options->>'finished_at')
      when 'timestamptz'::regtype then '%1$s' when 'timestamp'::regtype then 'pg_catalog.timezone(%2$L::pg_catalog.text, %1$s)'
      when 'date'::regtype then 'pg_catalog.timezone(%2$L::pg_catalog.text, %1$s)::pg_catalog.date'
      when 'numeric'::regtype then 'datastream.micros(%1$s)::pg_catalog.numeric / %3$s'
      when 'double precision'::regtype then 'datastream.micros(%1$s)::double precision / %3$s'
      else 'datastream.micros(%1$s) / %3$s' end,
    moment, options->>'time_zone', case options->>'finished_at_unit' when 's' then 1000000 when 'ms' then 1000 else 1 end)
$$;

-- The rounds of one game, newest first, by the seed index. Rounds of one moment come by their id on the wire: numbers by value,
-- before strings by bytes.
create function datastream.of_game_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  relation regclass := t.relation::regclass;
  e record := datastream.expressions(relation, t.options, 'r');
  type regtype := datastream.column_type(relation, t.options->>'game_id');
  game text := case when e.game is not null then 'r.game' when e.game_is_number then format('%s::bigint', t.options->>'game_id_value')
    else format('%L::pg_catalog.text', t.options->>'game_id_value') end;
  wanted text := case when e.game_is_number then 'of_game' when type = 'uuid'::regtype then 'datastream.uuid_of(of_game_key)'
    when type = 'bpchar'::regtype then 'of_game_key::pg_catalog.bpchar' else 'of_game_key' end
    || case when not e.game_is_number then datastream.collation_sql(relation, t.options->>'game_id') else '' end;
begin
  return format('(select %s from datastream.attached_%s_rounds r where %s = %s and r.finished <= %s and r.finished >= %s and %s order by r.finished desc, %s desc limit most)',
    datastream.returned_sql(t.id), t.id, game, wanted, datastream.bound_sql(relation, t.options, 'newest'), datastream.bound_sql(relation, t.options, 'oldest'),
    datastream.filter_sql(format('r.finished_at >= oldest and (r.finished_at < newest or r.finished_at = newest and (%s))',
      case when e.is_number then 'newest_key is not null or r.id_1 < newest_id' else 'r.round_key < newest_key' end)),
    case when e.is_number then 'r.id_1' else 'r.round_key' end);
end
$$;

-- The ids of a table's rounds from `oldest` until now. One game at a time, so that PostgreSQL uses the seed index.
create function datastream.since_sql(t datastream.attached) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  relation regclass := t.relation::regclass;
begin
  return format('select f.round_id, f.round_key from (%s) g cross join lateral (select r.round_id, r.round_key from datastream.attached_%s_rounds r '
    'where of_attachment = %2$s%s and r.finished <= %s and r.finished >= %s and case when r.finished_at between oldest and now() then true else false end order by r.finished desc offset 0) f',
    case when t.options ? 'game_id' then format('select distinct game from (%s) every_game', datastream.games_sql(t)) else 'select null' end, t.id,
    case when t.options ? 'game_id' then ' and r.game = g.game' else '' end,
    datastream.bound_sql(relation, t.options, 'now()'), datastream.bound_sql(relation, t.options, 'oldest'));
end
$$;

-- The statements that make the views `attached_games` and `finished_rounds` over these tables, and the functions for the reads that
-- must be fast. Each function queries every table with its own types and LIMIT. Over a plain UNION ALL the planner reads
-- all rounds of a game to find the latest (26 games in 200,000 rounds: 610 ms against 0.5 ms).
-- No name here is one that a game's table may have, whatever the search_path.
create function datastream.reads_sql(tables datastream.attached[]) returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  returned text := 'returns table (attachment integer, round_id bigint, round_key text, game_id bigint, game_key text, game_slug text, game_type text, '
    'finished_at timestamptz, extras text) language sql stable';
  nothing text := 'select null::integer as attachment, null::bigint as round_id, null::text collate "C" as round_key, null::bigint as game_id, null::text as game_key, '
    'null::text as game_slug, null::text as game_type, null::timestamptz as finished_at, null::text as extras where false';
  joint text := E'\n  union all ';
begin
  return next 'create or replace view datastream.attached_games as '
    || coalesce((select string_agg(format('select g.game_id, g.game_key collate "default" as game_key, g.slug collate "default" as slug, g.name collate "default" as name, '
          'g.type collate "default" as type from (%s) g', sql), joint)
        from (select distinct datastream.games_sql(t) as sql from unnest(tables) t) as once),
      'select null::bigint as game_id, null::text as game_key, null::text as slug, null::text as name, null::text as type where false');
  return next 'create or replace view datastream.finished_rounds as ' || coalesce((select string_agg(format(
    'select %s from datastream.attached_%s_rounds r', datastream.returned_sql(t.id), t.id), joint order by t.id) from unnest(tables) t), nothing);
  -- The finished rounds with these ids: of one attached table, or of all if `of_attachment` is null.
  return next format(E'create or replace function datastream.rounds_by_id(of_attachment integer, ids bigint[], keys text[]) %s as $datastream$\n  %s\n$datastream$', returned,
    coalesce((select string_agg(datastream.by_id_sql(t), joint order by t.id) from unnest(tables) t), nothing));
  -- The finished round with this id: of one attached table, or of each if `of_attachment` is null.
  return next format(E'create or replace function datastream.round_by_id(of_attachment integer, id bigint, key text) %s as $datastream$\n  %s\n$datastream$', returned,
    coalesce((select string_agg(datastream.one_by_id_sql(t), joint order by t.id) from unnest(tables) t), nothing));
  -- At most `most` rounds of a game, newest first, from before (newest, newest_id or newest_key) back to `oldest`.
  return next format(E'create or replace function datastream.rounds_of(of_game bigint, of_game_key text, newest timestamptz, newest_id bigint, newest_key text, '
    'oldest timestamptz, most bigint) %s as $datastream$\n  %s\n$datastream$', returned,
    -- Those of one table come in this order.
    coalesce((select format(case when count(*) = 1 then 'select * from %s r' else 'select * from (%s) r order by r.finished_at desc, coalesce(r.round_key, '''') collate "C" desc, r.round_id desc limit most' end,
      string_agg(datastream.of_game_sql(t), joint order by t.id)) from unnest(tables) t having count(*) > 0), nothing));
  -- The ids of the rounds of one attached table that finished from `oldest` until now.
  return next format(E'create or replace function datastream.ids_since(of_attachment integer, oldest timestamptz) '
    'returns table (round_id bigint, round_key text) language sql stable as $datastream$\n  %s\n$datastream$',
    coalesce((select string_agg(datastream.since_sql(t), joint order by t.id) from unnest(tables) t), 'select null::bigint, null::text where false'));
end
$$;

-- Which of these rows of an attached table exist, finished or not. For rounds that the views lack: they were deleted, are unfinished
-- again, or have no game. Reads the table as the views do, with the owner's rights.
create function datastream.existing_rows(of_attachment integer, ids bigint[], keys text[])
returns table (attachment integer, round_id bigint, round_key text, is_finished boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  t datastream.attached := (select a from datastream.attached a where a.id = of_attachment);
  e record;
begin
  if t.id is null then
    return;
  end if;
  e := datastream.expressions(t.relation::regclass, t.options, 'r');
  return query execute format('select %s, q.round_id, q.round_key, q.is_finished from (select $1 as of_attachment, $2 as ids, $3 as keys) p cross join lateral (%s) q', t.id,
    replace(replace(datastream.by_id_sql(t), datastream.returned_sql(t.id), 'r.round_id, r.round_key, r.is_finished'), format('datastream.attached_%s_rounds r', t.id),
      format('(select %s, %s as round_id, %s as round_key, (%s) is true as is_finished from %s r) r',
        (select string_agg(format('r.%I as id_%s', i.name, i.place), ', ' order by i.place) from jsonb_array_elements_text(t.options->'id') with ordinality as i(name, place)),
        case when e.is_number then e.round_id || '::bigint' else 'null::bigint' end,
        case when e.is_number then 'null::pg_catalog.text' else format('(%s) collate pg_catalog."C"', e.round_id) end,
        datastream.finished_sql(t.options, t.id, 'r'), t.relation))) using of_attachment, ids, keys;
end
$$;

-- The finished rounds of an attached table that cannot be sent because of their id or their moment, at most `most`. Reads the whole
-- table. `shown` is the id for people.
create function datastream.unsendable_rows(of_attachment integer, most integer) returns table (shown text, reason text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  t datastream.attached := (select a from datastream.attached a where a.id = of_attachment);
  e record;
begin
  if t.id is null then
    return;
  end if;
  e := datastream.expressions(t.relation::regclass, t.options, 'r');
  return query execute format('select case when c.is_bad then datastream.bad_key(c.key) else c.key end, case when c.is_bad then ''bad_id'' else ''out_of_range'' end '
    'from (select (%s)::pg_catalog.text as key, %s as is_bad, %s as finished_at from %s r where %s offset 0) c '
    'where c.is_bad or c.finished_at is null or c.finished_at < ''0001-01-01 00:00:00+00''::timestamptz or c.finished_at >= ''10000-01-01 00:00:00+00''::timestamptz limit $1',
    e.round_id, case when e.sendable is null then 'false' else format('(%s) is not true', e.sendable) end, e.finished_at, t.relation,
    datastream.finished_sql(t.options, t.id, 'r')) using most;
end
$$;

-- They read tables with the owner's rights: only the roles that may read the views call them (`sql/roles.sql`).
revoke execute on function datastream.existing_rows(integer, bigint[], text[]), datastream.unsendable_rows(integer, integer) from public;

-- Makes them over no table yet.
do $$
declare
  statement text;
begin
  for statement in select * from datastream.reads_sql('{}') loop
    execute statement;
  end loop;
end
$$;

-- The functions read with the caller's rights; the views that they read use their owner's.
grant execute on function datastream.rounds_by_id(integer, bigint[], text[]), datastream.round_by_id(integer, bigint, text), datastream.split_keys(text[]),
  datastream.rounds_of(bigint, text, timestamptz, bigint, text, timestamptz, bigint) to public;
