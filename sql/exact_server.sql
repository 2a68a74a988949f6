-- The server that answers resumes exactly (src/source/exact_server.rs).
-- No parameters.
-- Columns: server bigint (the number of a process; null: none), process text (see src/ops/process_name.rs; null if unknown).
select e.server, e.process from datastream.exact_server e
