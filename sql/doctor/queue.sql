-- At 1, every commit that notifies fails. The queue grows if a session listens without reading, or listens in an open
-- transaction.
select case when u.usage >= 0.5 then 'failed' when u.usage >= 0.1 then 'warning' else 'ok' end as status,
       format('the notification queue is %s %% full', round((u.usage * 100)::numeric, 1)) as says,
       'end the session that does not read notifications (PostgreSQL''s log names its pid), or run: datastream migrate --capture poll' as remedy
from (select pg_notification_queue_usage() as usage) u
