-- A row with the number of the server that answers resumes exactly. It outlives that server's connection (src/source/exact_server.rs).

set local lock_timeout = '2s';

-- One row.
create table datastream.exact_server (
  one boolean primary key default true check (one),
  server bigint,  -- the number of a process; null: no server answers exactly
  process text  -- the same process by the machine, its id there and its start; null if that is not known
);
insert into datastream.exact_server default values;

-- As sql/roles.sql gives the objects of the schema to its owner and lets the server's role use them, if it was run.
do $$
declare
  owner name := (select pg_catalog.pg_get_userbyid(n.nspowner) from pg_catalog.pg_namespace n where n.nspname = 'datastream');
  reader name;
begin
  if owner <> current_user then
    execute pg_catalog.format('alter table datastream.exact_server owner to %I', owner);
  end if;
  for reader in
    select pg_catalog.pg_get_userbyid(g.grantee)
    from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) g
    where c.oid = 'datastream.outbox'::regclass and g.privilege_type = 'SELECT' and g.grantee <> 0 and g.grantee <> c.relowner
  loop
    execute pg_catalog.format('grant select, update on datastream.exact_server to %I', reader);
  end loop;
end
$$;

-- Earlier programs do not read the row, and see other servers by their locks as before.
insert into datastream.compatible_migrations values (20260117000800);
