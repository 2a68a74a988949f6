-- The same in the read-only mode: the rounds that finished last.
newest as materialized (
  select 0 as attachment, coalesce({round:id}, 0) as round_id, coalesce({round:key}, '') as round_key
  from datastream_finished f
  order by f.finished_at desc limit 1000
)
