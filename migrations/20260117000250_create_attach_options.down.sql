set local lock_timeout = '2s';

drop function if exists datastream.with_defaults(regclass, jsonb);
drop function if exists datastream.attach_options(regclass, jsonb);
drop function if exists datastream.deparse(regclass, text);
drop function if exists datastream.is_hypertable(regclass);
drop function if exists datastream.has_numbers(regclass, jsonb);
drop function if exists datastream.id_kind(regtype);
drop function if exists datastream.column_type(regclass, text);
drop function if exists datastream.columns_of(regclass);
drop function if exists datastream.qualified(regclass);
drop table if exists datastream.attachments_given;
drop table if exists datastream.attached;
