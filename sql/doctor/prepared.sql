-- PREPARE TRANSACTION fails in a transaction that has notified. A prepared transaction keeps its locks until it ends.
select case when current_setting('max_prepared_transactions')::integer > 0 and n.notifying > 0 then 'warning' else 'ok' end as status,
       case when current_setting('max_prepared_transactions')::integer = 0 then 'two-phase commit is off'
            when n.notifying > 0 then 'two-phase commit is on, and capture is not poll: PREPARE TRANSACTION fails in a transaction that finishes a round'
            else 'two-phase commit is on, and capture is poll' end as says,
       E'set capture to poll, unless transactions that finish rounds are never prepared:\ndatastream migrate --capture poll' as remedy
from (select count(*) filter (where a.capture <> 'poll') as notifying from datastream.attached a) n
union all
select 'warning', format('transaction %L has been prepared since %s', p.gid, to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SSOF')),
       format('run: commit prepared %L, or: rollback prepared %1$L', p.gid)
from pg_prepared_xacts p
where p.database = current_database() and p.prepared < clock_timestamp() - interval '5 minutes'
