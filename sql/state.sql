-- State of the server, read before the schema datastream is used.
-- No parameters; works without our schema and for any role.
-- Columns: in_recovery boolean, system_identifier text, timeline integer, database oid, has_schema boolean,
--          server_version_num integer.
-- Of a schema of which something was dropped the next query tells what. The catalog is asked for it, since `to_regclass` fails for a role that may not use it.
-- The timeline is read from the WAL position: the control file learns of a promotion only at the next
-- checkpoint. A standby has no position of its own to write at, so there the control file must do.
select pg_is_in_recovery() as in_recovery,
       (select system_identifier::text from pg_control_system()) as system_identifier,
       case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
            else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end as timeline,
       (select oid from pg_database where datname = current_database()) as database,
       exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'datastream' and c.relname in ('outbox', 'attached')) as has_schema,
       current_setting('server_version_num')::integer as server_version_num
