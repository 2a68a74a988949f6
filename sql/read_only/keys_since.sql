-- The ids of rounds that finished at a time or later, with the database's clock. Without such rounds: one row with the clock.
-- It evaluates no content, so one round that cannot be read does not hide the others.
-- $1 bigint: microseconds since the epoch; null: only the clock
select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now, r.*
from (select) always
left join (
  select 0 as attachment, {round:id} as round_id, {round:key} as round_key, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros
  from datastream_finished f
  where f.finished_at >= timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
) r on true
order by r.finished_micros, r.round_key collate "C", r.round_id
