-- State of PostgreSQL, which the server reads before it uses the schema datastream.
-- No parameters; works without our schema and for any role.
-- Columns: in_recovery boolean, system_identifier text, timeline integer, database oid, has_schema boolean,
--          server_version_num integer.
-- If objects of the schema were dropped, the next query reports them. This query looks the schema up in the catalog, because
-- `to_regclass` fails for a role that may not use it.
-- The timeline comes from the WAL position, because the control file has a new timeline only after the next checkpoint. A standby
-- has no WAL position to write at, so there the timeline comes from the control file.
select pg_is_in_recovery() as in_recovery,
       (select system_identifier::text from pg_control_system()) as system_identifier,
       case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
            else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end as timeline,
       (select oid from pg_database where datname = current_database()) as database,
       exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'datastream' and c.relname in ('outbox', 'attached')) as has_schema,
       current_setting('server_version_num')::integer as server_version_num
