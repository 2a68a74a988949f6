-- The maintenance that the server runs each minute. One session at a time does each task.

set local lock_timeout = '2s';

-- Each task holds the lock of its table until its transaction ends. An advisory lock would not do: every role that can
-- connect can take one, and so could stop the task. The tables are empty.
create table datastream.reconcile_lock ();
create table datastream.trim_lock ();

-- Adds outbox rows for finished rounds that have none because the trigger could not write them. It looks at rounds that
-- finished in the last ten minutes, after their table was attached, and after what `trim` has deleted.
-- Returns the number of rows; null if another session is doing it.
-- `since` is a transaction id from before that time. Newer outbox rows are cheap to read. Only rounds not found there are
-- looked up in the whole outbox, so that no round is added twice.
-- The lock is taken by a statement of its own. At `read committed`, the level of all our sessions, the next statement sees
-- what the last holder of the lock committed.
create function datastream.reconcile(since xid8) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  attachments integer[];
  ids bigint[];
  keys text[];
  inserted bigint := 0;
begin
  begin
    lock table datastream.reconcile_lock in exclusive mode nowait;
  exception when lock_not_available then
    return null;
  end;
  -- EXCEPT reads each side once, whatever numbers the planner expects. A string is not null in round_key, a number in round_id.
  select array_agg(m.attachment), array_agg(m.round_id), array_agg(m.round_key) into attachments, ids, keys from (
    select a.id as attachment, coalesce(f.round_id, 0) as round_id, coalesce(f.round_key, '') collate "C" as round_key
    from datastream.attached a
    cross join lateral datastream.ids_since(a.id, greatest(now() - interval '10 minutes', a.attached_at, (select t.at from datastream.trimmed t))) f
    where to_regclass(format('datastream.attached_%s_rounds', a.id)) is not null
    except
    select o.attachment, o.round_id, o.round_key from datastream.outbox o where o.xid >= since) m;
  if attachments is not null then
    insert into datastream.outbox (attachment, round_id, round_key)
    select m.attachment, m.round_id, m.round_key from unnest(attachments, ids, keys) as m(attachment, round_id, round_key)
    where not exists (select from datastream.outbox o where o.attachment = m.attachment and o.round_id = m.round_id and o.round_key = m.round_key collate "C");
    get diagnostics inserted = row_count;
  end if;
  return inserted;
end
$$;

-- Deletes outbox rows older than `older_than`. It looks at the oldest `max_rows`, through the primary key. Returns the
-- number of deleted rows; null if another session is doing it. Call it again while it returns `max_rows`.
-- Never use TRUNCATE here: its lock would stop the game's writes.
-- First it deletes rows with transaction ids that this cluster has not reached. A logical restore brought them from another
-- cluster, and this one would publish them again once it gets there. The other cluster's rows are then incomplete, so
-- that no resume point in them is valid.
create function datastream.trim(older_than interval, max_rows integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  of_others bigint;
  deleted bigint;
  last_xid xid8;
  last_at timestamptz;
begin
  begin
    lock table datastream.trim_lock in exclusive mode nowait;
  exception when lock_not_available then
    return null;
  end;
  -- One statement has one snapshot, so rows that are committed meanwhile stay.
  with ahead as (
    select o.xid, o.attachment, o.round_id, o.round_key from datastream.outbox o where o.xid >= pg_snapshot_xmax(pg_current_snapshot())
    order by o.xid, o.attachment, o.round_id, o.round_key limit max_rows
  ), gone as (
    delete from datastream.outbox o using ahead
    where o.xid = ahead.xid and o.attachment = ahead.attachment and o.round_id = ahead.round_id and o.round_key = ahead.round_key returning o.at
  )
  select count(*), max(g.at) into of_others, last_at from gone g;
  if of_others > 0 or exists (select from datastream.trimmed t where t.xid >= pg_snapshot_xmax(pg_current_snapshot())) then
    insert into datastream.trimmed as t (xid, at)
    values ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8, coalesce(last_at, '-infinity'))
    on conflict (one) do update set at = greatest(t.at, excluded.at), xid = excluded.xid;
  end if;
  with oldest as (
    select o.xid, o.attachment, o.round_id, o.round_key, o.at from datastream.outbox o
    order by o.xid, o.attachment, o.round_id, o.round_key limit max_rows - of_others
  ), gone as (
    delete from datastream.outbox o using oldest
    where o.xid = oldest.xid and o.attachment = oldest.attachment and o.round_id = oldest.round_id and o.round_key = oldest.round_key
      and oldest.at < now() - older_than
    returning o.xid, o.at
  )
  select count(*), max(g.at), (select l.xid from gone l order by l.xid desc limit 1) into deleted, last_at, last_xid from gone g;
  if deleted > 0 then
    insert into datastream.trimmed as t (xid, at) values (last_xid, last_at)
    on conflict (one) do update set at = greatest(t.at, excluded.at),
      xid = case when t.xid < excluded.xid then excluded.xid else t.xid end;
  end if;
  return of_others + deleted;
end
$$;

-- They run with their owner's rights and change the outbox. Only the server's role gets a grant (sql/roles.sql).
revoke execute on function datastream.reconcile(xid8), datastream.trim(interval, integer) from public;
