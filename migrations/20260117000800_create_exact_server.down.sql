set local lock_timeout = '2s';

drop table if exists datastream.exact_server;
delete from datastream.compatible_migrations where version = 20260117000800;
