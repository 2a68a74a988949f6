-- Removes the name of the server that answers resumes exactly, unless the row names another one.
-- $1 bigint: its number.
-- Columns: server bigint, always null. No row if another is named.
-- A crash must not undo this: see take_exact_server.sql.
update datastream.exact_server set server = null, process = null where server = $1::bigint
returning case when set_config('synchronous_commit', 'local', true) is null then server end as server
