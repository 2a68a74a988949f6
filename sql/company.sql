-- Whether other nodes stream this database. `application_name` is shown to every role.
-- No parameters.
select exists (select from pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()
  and a.application_name ~ ' (listen|read-only)$') as others
