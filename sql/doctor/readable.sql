-- The views read with their owner's rights. Rounds are missing if the owner may not read a column, or if row security hides
-- rows from it. The effect of row security is known if it does not apply, if no policy shows the owner a row, or if one shows
-- all rows. For other policies a warning says that the effect is unknown.
, v as (
  select distinct v.oid, o.oid as owner, o.rolname, o.rolsuper or o.rolbypassrls as sees_all, r.oid as relation
  from reads r join pg_class v on v.oid = r.view join pg_roles o on o.oid = v.relowner
), hiding as (
  select v.rolname, t.oid,
         count(*) filter (where p.polpermissive and p.polqual is not null) as showing,
         bool_or(p.polpermissive and pg_get_expr(p.polqual, p.polrelid) = 'true') as shows_all,
         bool_or(not p.polpermissive and pg_get_expr(p.polqual, p.polrelid) <> 'true') as restricted
  from v
  join pg_class t on t.oid = v.relation
  left join pg_policy p on p.polrelid = t.oid and p.polcmd in ('r', '*')
    and exists (select from unnest(p.polroles) as for_role where for_role = 0 or pg_has_role(v.owner, for_role, 'usage'))
  -- Policies do not apply to a role with the rights of the table's owner, unless row security is forced.
  where t.relrowsecurity and not v.sees_all and (t.relforcerowsecurity or not pg_has_role(v.owner, t.relowner, 'usage'))
  group by v.rolname, t.oid
)
select 'failed' as status, format('role %s, the owner of the views, may not read %s', v.rolname, v.relation::regclass) as says,
       format(E'run as the owner of the table:\ngrant select on %s to %I;', v.relation::regclass, v.rolname) as remedy
from v
where exists (select from reads r where r.view = v.oid and r.oid = v.relation and r.attnum > 0 and not has_column_privilege(v.owner, r.oid, r.attnum::smallint, 'select'))
union
select case when h.showing = 0 then 'failed' else 'warning' end,
       format('row security on %s applies to role %s, the owner of the views: ', h.oid::regclass, h.rolname)
       || case when h.showing = 0 then 'no policy shows it a row, so none is streamed' else 'its policies may hide rows, which are then not streamed' end,
       case when coalesce(h.restricted, false) then format(E'run as a superuser:\nalter role %I bypassrls;', h.rolname)
            else format(E'run as the owner of the table (or, as a superuser: alter role %3$I bypassrls):\ncreate policy %1$I on %2$s for select to %3$I using (true);',
                        'datastream_' || h.oid, h.oid::regclass, h.rolname) end
from hiding h
where not coalesce(h.shows_all, false) or coalesce(h.restricted, false)
