set local lock_timeout = '2s';

drop function if exists datastream.open_rounds(regclass, jsonb);
drop function if exists datastream.attach_problems(regclass, jsonb, datastream.attached[]);
drop function if exists datastream.prefix_problems(regclass, jsonb, datastream.attached[]);
drop function if exists datastream.doubled_game(jsonb);
drop function if exists datastream.game_problems(regclass, jsonb);
drop function if exists datastream.finished_problems(regclass, jsonb);
drop function if exists datastream.id_problems(regclass, jsonb);
drop function if exists datastream.is_unique(regclass, text[]);
drop function if exists datastream.table_problems(regclass);
drop function if exists datastream.is_table(regclass);
drop function if exists datastream.option_problems(jsonb);
drop function if exists datastream.column_problems(regclass, jsonb);
