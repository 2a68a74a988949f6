-- At 1 every commit that notifies fails. Only a session that listens and does not read, or one that listens in an open
-- transaction, makes it grow.
select case when u.usage >= 0.5 then 'failed' when u.usage >= 0.1 then 'warning' else 'ok' end as status,
       format('the notification queue is %s %% full', round((u.usage * 100)::numeric, 1)) as says,
       'end the session that does not read (PostgreSQL''s log names its pid), or datastream migrate --capture poll' as remedy
from (select pg_notification_queue_usage() as usage) u
