-- The poll: rounds committed since a snapshot, with their content, in one statement.
-- $1 text: the snapshot of the last poll that was read to its end.
-- $2 bigint: the most rows. If there are so many, page.sql reads them instead.
-- Columns: snapshot text (the next $1), inserted bigint, flushed bigint (WAL positions: while `inserted` of one poll is
--          above `flushed` of a later one, a crash may undo rows that the first has seen), alone boolean (see
--          src/source/exact_claim.rs), exact_server bigint (see src/source/exact_server.rs), now_micros bigint (the database's clock, since the epoch),
--          xid bigint, before bigint, attachment integer (negative: the id cannot be sent), round_id bigint, round_key text (empty
--          for a number; else round_id is 0), at_micros bigint (when the outbox row was written, since the
--          epoch), age_micros bigint (the same, ago), has_round boolean (false: the round was deleted or is unfinished
--          again), and those of rounds_by_id.sql
--          without attachment, round_id and round_key.
-- One row with a null round_id if nothing is new; ordered by xid, attachment, round_id, round_key.
-- `>= xmax or = any (xip)` means `not visible`, but PostgreSQL need not read all rows since the oldest open transaction began
-- (0.23 ms, otherwise 44.8 ms if a transaction was open for a million rows). `< xmax` leaves out rows of a logical restore whose
-- transaction ids this cluster has not reached. It is a condition on the key: 0.06 ms with a million of such rows.
-- There are two branches, because for one condition with `or` and a limit, the generic plan reads the whole outbox (190 ms for a
-- million rows, instead of 0.5 ms). The limit is inside, so PostgreSQL reads the content of returned rows only. For one new round
-- the poll takes 0.12-0.15 ms. Without content it takes 0.10 ms, and reading the content separately 0.08 ms more.
select s.snap::text as snapshot, (s.inserted - '0/0'::pg_lsn)::bigint as inserted, (s.flushed - '0/0'::pg_lsn)::bigint as flushed,
       s.alone, s.exact_server, s.now_micros,
       o.xid::text::bigint as xid, o.before::text::bigint as before, o.attachment, o.round_id, o.round_key,
       (extract(epoch from o.at) * 1000000)::bigint as at_micros,
       (extract(epoch from clock_timestamp() - o.at) * 1000000)::bigint as age_micros,
       case when o.round_id is not null then f.attachment is not null end as has_round,
       f.game_id, f.game_key, f.game_slug, f.game_type, datastream.micros(f.finished_at) as finished_micros,
       case when octet_length(f.extras) <= coalesce(nullif(current_setting('datastream.max_round', true), '')::bigint, 1048576)
            then f.extras end as extras
from (select pg_current_snapshot() as snap, pg_current_wal_insert_lsn() as inserted, pg_current_wal_flush_lsn() as flushed,
             (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros,
             case when pg_try_advisory_lock(7264, 10) then pg_advisory_unlock(7264, 10) else false end as alone,
             (select e.server from datastream.exact_server e) as exact_server) s
left join lateral (
    select u.xid, u.before, u.attachment, u.round_id, u.round_key, u.at
    from (
        (select o.xid, o.before, o.attachment, o.round_id, o.round_key, o.at from datastream.outbox o
         where o.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and o.xid < pg_snapshot_xmax(pg_current_snapshot())
         order by o.xid, o.attachment, o.round_id, o.round_key limit $2::bigint)
        union all
        (select o.xid, o.before, o.attachment, o.round_id, o.round_key, o.at from datastream.outbox o
         where o.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
         order by o.xid, o.attachment, o.round_id, o.round_key limit $2::bigint)
    ) u
    order by u.xid, u.attachment, u.round_id, u.round_key
    limit $2::bigint
) o on true
left join lateral (select r.* from datastream.round_by_id(o.attachment, o.round_id, o.round_key) r limit 1) f on true
order by o.xid, o.attachment, o.round_id, o.round_key
