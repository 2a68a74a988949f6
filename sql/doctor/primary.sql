-- LISTEN is impossible on a standby, and its snapshots are not those of the primary.
select case when pg_is_in_recovery() then 'failed' else 'ok' end as status,
       case when pg_is_in_recovery() then 'the server is a standby (in recovery)' else 'the server is a primary' end as says,
       'set the URL to the primary, or add target_session_attrs=read-write to it; a standby works with serve --read-only only' as remedy
