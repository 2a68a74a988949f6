set local lock_timeout = '2s';

drop function if exists datastream.triggers_sql(regclass, jsonb, integer, text);
drop function if exists datastream.has_triggers(regclass);
drop function if exists datastream.is_subscribed(regclass);
drop function if exists datastream.by_row(regclass);
drop function if exists datastream.row_function_sql(regclass, jsonb, integer, text, text);
drop function if exists datastream.insert_function_sql(regclass, jsonb, integer, text);
drop function if exists datastream.announced_sql(text);
