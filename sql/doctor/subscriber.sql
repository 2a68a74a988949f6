-- Rows from a logical subscription fire only row triggers that are enabled ALWAYS.
select 'warning' as status, format('a logical subscription writes to %s, and trigger %s does not fire for it', a.relation, t.tgname) as says,
       format(E'attach again with the same options:\n%s', a.again) as remedy
from attached a
join pg_trigger t on t.tgrelid = a.oid and t.tgname in ('datastream_inserted', 'datastream_updated') and (t.tgenabled <> 'A' or t.tgtype & 1 = 0)
where exists (select from pg_subscription_rel s
              where s.srrelid in (select a.oid union all select p.relid from pg_partition_tree(a.oid) p))
