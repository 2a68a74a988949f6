-- A page of the outbox rows committed since a snapshot, if there are more than poll.sql returns. 10,000 rows take 44 ms. One
-- answer with a million rows would take 2.4 s, and the memory for all of them.
-- $1 text: the snapshot of the last poll that was read to its end.
-- $2 text: the snapshot of the first page, up to which all pages read; null for the first.
-- $3 bigint, $4 integer, $5 bigint, $6 text: xid, attachment, round_id and round_key of the row after which to read.
-- $7 bigint: how many rows.
-- Columns and order: those of poll.sql, without content: has_round is null. `snapshot` is $2 if that is given.
-- The key is a condition on the index. PostgreSQL skips rows that $1 sees already (45 ms for a million rows, after a
-- transaction that was open for so long).
select s.snap::text as snapshot, (s.inserted - '0/0'::pg_lsn)::bigint as inserted, (s.flushed - '0/0'::pg_lsn)::bigint as flushed,
       o.xid::text::bigint as xid, o.before::text::bigint as before, o.attachment, o.round_id, o.round_key,
       (extract(epoch from o.at) * 1000000)::bigint as at_micros,
       (extract(epoch from clock_timestamp() - o.at) * 1000000)::bigint as age_micros,
       s.now_micros, s.alone, s.exact_server, null::boolean as has_round
from (select coalesce($2::text::pg_snapshot, pg_current_snapshot()) as snap,
             pg_current_wal_insert_lsn() as inserted, pg_current_wal_flush_lsn() as flushed,
             (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros,
             case when pg_try_advisory_lock(7264, 10) then pg_advisory_unlock(7264, 10) else false end as alone,
             (select e.server from datastream.exact_server e) as exact_server) s
left join lateral (
    select o.xid, o.before, o.attachment, o.round_id, o.round_key, o.at
    from datastream.outbox o
    where (o.xid, o.attachment, o.round_id, o.round_key) > ($3::bigint::text::xid8, $4::integer, $5::bigint, $6::text)
      and o.xid < pg_snapshot_xmax(s.snap)
      and pg_visible_in_snapshot(o.xid, s.snap)
      and not pg_visible_in_snapshot(o.xid, $1::text::pg_snapshot)
    order by o.xid, o.attachment, o.round_id, o.round_key
    limit $7::bigint
) o on true
order by o.xid, o.attachment, o.round_id, o.round_key
