-- Rounds that cannot be sent and that no other query finds: their finished_at has no RFC 3339 text, or UTF-8 lacks a character of
-- their id. At most 150, which the server counts and logs.
-- Columns: attachment, round_id, round_key, is_bad_id boolean.
(select 0 as attachment, {round:id} as round_id, {round:shown} as round_key, false as is_bad_id from datastream_rounds f
 where f.finished_at < timestamptz '0001-01-01 00:00:00+00' order by f.finished_at limit 50)
union all
(select 0 as attachment, {round:id} as round_id, {round:shown} as round_key, false as is_bad_id from datastream_rounds f
 where f.finished_at >= timestamptz '10000-01-01 00:00:00+00' order by f.finished_at desc limit 50)
union all
(select 0 as attachment, {round:id} as round_id, {round:shown} as round_key, true as is_bad_id from datastream_rounds f
 where f.finished_at > clock_timestamp() - interval '1 minute' and f.finished_at < timestamptz '10000-01-01 00:00:00+00'
   and not ({round:is_text}) order by f.finished_at desc limit 50)
