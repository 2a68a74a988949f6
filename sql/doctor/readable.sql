-- The views read with their owner's rights: where those do not reach the game's tables, or row security hides rows from
-- the owner, rounds are missing in the stream.
select 'failed' as status, format('%s, who owns datastream.%s, may not read %s', pg_get_userbyid(v.relowner), v.relname, t.oid::regclass) as says,
       format('grant select on %s to %I', t.oid::regclass, pg_get_userbyid(v.relowner)) as remedy
from attached a
join pg_class v on v.relnamespace = 'datastream'::regnamespace and v.relname = 'rounds_' || a.id
cross join lateral unnest(array[a.oid, a.games]) as w(oid)
join pg_class t on t.oid = w.oid
where not has_table_privilege(v.relowner, t.oid, 'select') or not has_schema_privilege(v.relowner, t.relnamespace, 'usage')
union all
select 'failed', format('row security on %s applies to %s, who owns the views: rounds it hides are not streamed', t.oid::regclass, o.rolname),
       format('alter role %I bypassrls, or a policy for that role that shows all rows', o.rolname)
from attached a
join pg_class v on v.relnamespace = 'datastream'::regnamespace and v.relname = 'rounds_' || a.id
cross join lateral unnest(array[a.oid, a.games]) as w(oid)
join pg_class t on t.oid = w.oid
join pg_roles o on o.oid = v.relowner
where t.relrowsecurity and (t.relowner <> v.relowner or t.relforcerowsecurity) and not o.rolbypassrls and not o.rolsuper
