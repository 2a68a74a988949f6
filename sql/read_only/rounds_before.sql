-- As rounds_before.sql.
select 0 as attachment, {round:id} as round_id, {round:key} as round_key, {game:id} as game_id, {game:key} as game_key, f.game_slug, f.game_type, (extract(epoch from date_trunc('second', timezone('UTC', f.finished_at)))::bigint * 1000000 + extract(microseconds from timezone('UTC', f.finished_at))::bigint % 1000000) as finished_micros, f.extras
from datastream_finished f
where {game:is $1 $2}
  and ($3::bigint is null and $4::text is null or (f.finished_at, {round:order}) < (select b.finished_at, {before:order} from datastream_finished b where {before:is $3 $4}))
order by f.finished_at desc, {round:order} desc
limit $5::bigint
