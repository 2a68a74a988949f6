-- Gives the objects that `attach` created to the owner of the schema, and lets the readers of the outbox read them. Changes
-- nothing if one role owns everything. Run it after attaching, in the same transaction.
set local search_path = pg_catalog, pg_temp;
do $$
declare
  owner name := (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'datastream');
  made record;
begin
  -- Functions run and views read with their owner's rights.
  for made in
    select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind, format('datastream.%I', c.relname) as name
    from pg_class c
    where c.relnamespace = 'datastream'::regnamespace and c.relkind in ('r', 'v', 'S') and pg_get_userbyid(c.relowner) <> owner
    union all
    select 'function', p.oid::regprocedure::text from pg_proc p
    where p.pronamespace = 'datastream'::regnamespace and pg_get_userbyid(p.proowner) <> owner
  loop
    execute format('alter %s %s owner to %I', made.kind, made.name, owner);
  end loop;
  -- So the owner must be able to read the attached tables.
  for made in
    select distinct t.name::regclass as name, t.name::regclass::oid as oid, c.relnamespace::regnamespace as schema
    from datastream.attached a
    cross join lateral (select a.relation union all select a.options->>'games') as t(name)
    join pg_class c on c.oid = to_regclass(t.name)
  loop
    if not has_schema_privilege(owner, made.schema::oid, 'usage') then
      execute format('grant usage on schema %s to %I', made.schema, owner);
    end if;
    if not has_table_privilege(owner, made.oid, 'select') then
      execute format('grant select on %s to %I', made.name, owner);
    end if;
  end loop;
  -- A view that was created again has no grants: the roles that may read the outbox get them.
  for made in
    select v.oid::regclass as name, pg_get_userbyid(g.grantee) as reader
    from pg_class f
    cross join lateral aclexplode(f.relacl) g
    join pg_class v on v.relnamespace = f.relnamespace and v.relkind = 'v' and v.relname ~ '^(attached_\d+_rounds|attached_games|finished_rounds)$'
    where f.oid = 'datastream.outbox'::regclass and g.privilege_type = 'SELECT' and g.grantee <> 0
      and pg_get_userbyid(g.grantee) <> owner and not has_table_privilege(g.grantee, v.oid, 'select')
  loop
    execute format('grant select on %s to %I', made.name, made.reader);
  end loop;
end
$$;
