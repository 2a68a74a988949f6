-- PREPARE TRANSACTION fails in a transaction that has notified; one that is prepared and forgotten holds all its locks.
select case when current_setting('max_prepared_transactions')::integer > 0 and n.notifying > 0 then 'warning' else 'ok' end as status,
       case when current_setting('max_prepared_transactions')::integer = 0 then 'two-phase commit is off'
            when n.notifying > 0 then 'two-phase commit is on, and capture is not poll: PREPARE TRANSACTION fails where a round was finished'
            else 'two-phase commit is on, and capture is poll' end as says,
       E'unless no transaction that finishes rounds is prepared:\ndatastream migrate --capture poll' as remedy
from (select count(*) filter (where a.capture <> 'poll') as notifying from datastream.attached a) n
union all
select 'warning', format('transaction %L is prepared since %s', p.gid, to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SSOF')),
       format('commit prepared %L, or rollback prepared %1$L', p.gid)
from pg_prepared_xacts p
where p.database = current_database() and p.prepared < clock_timestamp() - interval '5 minutes'
