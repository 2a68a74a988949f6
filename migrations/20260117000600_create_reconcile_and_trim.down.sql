set local lock_timeout = '2s';

drop function if exists datastream.trim(interval, integer);
drop function if exists datastream.reconcile(xid8);
drop table if exists datastream.trim_lock;
drop table if exists datastream.reconcile_lock;
