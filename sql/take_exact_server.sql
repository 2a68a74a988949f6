-- Names a process as the server that answers resumes exactly, unless the row names another one.
-- $1 bigint: its number.
-- $2 text: the process; null if unknown.
-- Columns: server bigint. No row if another is named.
-- A crash must not undo this: `local` waits for the disk. With `on`, the stream could not begin while a standby is away.
update datastream.exact_server set server = $1::bigint, process = $2::text where server is null or server = $1::bigint
returning case when set_config('synchronous_commit', 'local', true) is not null then server end as server
