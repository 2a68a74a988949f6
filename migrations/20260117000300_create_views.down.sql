set local lock_timeout = '2s';

drop function if exists datastream.rounds_of(bigint, timestamptz, bigint, timestamptz, bigint);
drop function if exists datastream.rounds_by_id(bigint[]);
drop function if exists datastream.reads_sql(datastream.attached[]);
drop function if exists datastream.games_sql(datastream.attached);
drop function if exists datastream.view_sql(datastream.attached);
drop function if exists datastream.expressions(regclass, jsonb, text);
drop function if exists datastream.attach_options(regclass, jsonb);
drop function if exists datastream.refuse_unseen(regclass, jsonb);
drop function if exists datastream.refuse_contradictions(jsonb);
drop function if exists datastream.column_type(regclass, text, regtype[]);
drop function if exists datastream.qualified(regclass);
drop view if exists datastream.finished_rounds;
drop view if exists datastream.games;
drop table if exists datastream.attached;
