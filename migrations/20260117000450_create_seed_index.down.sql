set local lock_timeout = '2s';

drop function if exists datastream.index_sql(regclass, boolean);
drop function if exists datastream.index_definition(jsonb, boolean, integer);
drop function if exists datastream.own_indexes();
drop function if exists datastream.relation_named(text);
drop table if exists datastream.seed_indexes;
