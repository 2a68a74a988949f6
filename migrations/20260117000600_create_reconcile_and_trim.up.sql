-- What the server asks the outbox to do for itself, now and then, by one node at a time.

set local lock_timeout = '2s';

-- Puts into the outbox what a trigger could not: rounds finished in the last ten minutes (and since
-- their own table was attached, and since what was trimmed) that have no outbox row. Returns how many. `since` is a transaction id
-- from before that time: looking at what is newer is cheap, and only what is not found there is
-- looked for in the whole outbox, so that no round is ever put in twice.
-- The lock is taken in a statement before the one that looks: that one then sees what the node that
-- held the lock last put in. (At `read committed`, where every session of ours runs.)
create function datastream.reconcile(since xid8) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  attached record;
  finished bigint[];
  lately bigint[];
  missing bigint[];
  inserted bigint := 0;
begin
  if not pg_try_advisory_xact_lock(7264, 2) then
    return 0;
  end if;
  for attached in
    select a.id, greatest(now() - interval '10 minutes', a.attached_at, (select t.at from datastream.trimmed t)) as oldest
    from datastream.attached a where to_regclass('datastream.rounds_' || a.id) is not null
  loop
    -- Game by game, so that the seed index serves it (`offset 0` keeps it so).
    execute format('select array_agg(f.round_id) from datastream.games g cross join lateral ('
      'select r.round_id::bigint as round_id from datastream.rounds_%s r '
      'where r.game_id = g.id and r.finished_at between $1 and now() order by r.finished_at desc offset 0) f', attached.id)
    into finished using attached.oldest;
    lately := lately || finished;
  end loop;
  -- One pass over each, however many the planner expects.
  select array_agg(m.round_id) into missing
  from (select unnest(lately) except select o.round_id from datastream.outbox o where o.xid >= since) as m(round_id);
  if missing is not null then
    insert into datastream.outbox (round_id)
    select distinct round_id from unnest(missing) as m(round_id)
    where round_id not in (select o.round_id from datastream.outbox o where o.round_id = any (missing));
    get diagnostics inserted = row_count;
  end if;
  return inserted;
end
$$;

-- Deletes outbox rows older than `older_than`: the oldest `max_rows` are looked at, through the primary
-- key, and those of them that are too old go. Returns how many. Call it again while it returns
-- `max_rows`. Never TRUNCATE: its lock would stop the game's writes.
-- First go the rows of transactions that have yet to begin: a logical restore has brought them from
-- another cluster, and would pass for news once this one came there. What is left of that cluster's
-- is not whole then, and no resume point in it can be honored.
create function datastream.trim(older_than interval, max_rows integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  of_others bigint;
  deleted bigint;
  last_xid xid8;
  last_at timestamptz;
begin
  if not pg_try_advisory_xact_lock(7264, 3) then
    return 0;
  end if;
  -- One statement has one snapshot: what is committed in the meantime is not seen.
  with ahead as (
    select o.xid, o.round_id from datastream.outbox o where o.xid >= pg_snapshot_xmax(pg_current_snapshot())
    order by o.xid, o.round_id limit max_rows
  ), gone as (
    delete from datastream.outbox o using ahead where o.xid = ahead.xid and o.round_id = ahead.round_id returning o.at
  )
  select count(*), max(g.at) into of_others, last_at from gone g;
  if of_others > 0 or exists (select from datastream.trimmed t where t.xid >= pg_snapshot_xmax(pg_current_snapshot())) then
    insert into datastream.trimmed as t (xid, at)
    values ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8, coalesce(last_at, '-infinity'))
    on conflict (one) do update set at = greatest(t.at, excluded.at), xid = excluded.xid;
  end if;
  with oldest as (
    select o.xid, o.round_id, o.at from datastream.outbox o order by o.xid, o.round_id limit max_rows - of_others
  ), gone as (
    delete from datastream.outbox o using oldest
    where o.xid = oldest.xid and o.round_id = oldest.round_id and oldest.at < now() - older_than
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

-- They run as their owner and change the outbox: for the server's own role, by a grant.
revoke execute on function datastream.reconcile(xid8), datastream.trim(interval, integer) from public;
