set local lock_timeout = '2s';

drop function if exists datastream.after_change(text, jsonb);
drop function if exists datastream.restore(integer, regclass, jsonb);
drop function if exists datastream.changed(regclass);
drop function if exists datastream.before_change(text);
drop function if exists datastream.release(regclass);
drop function if exists datastream.existing(text, regclass);
drop function if exists datastream.adopt();
drop table if exists datastream.changing;
