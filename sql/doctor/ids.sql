-- The id alone identifies a round, and two attached tables with close sequences will use the same ids. A role that may
-- not read a sequence sees its start value only.
, ids as (
  select a.id, a.relation, a.options->'id'->>0 as name, s.oid as sequence, coalesce(p.last_value, q.seqstart) as position, q.seqstart, q.seqincrement,
         case when c.attidentity = '' then format('alter sequence %s start with %%s restart;', s.oid::regclass)
              else format('alter table %s alter column %I set start with %%s restart;', a.oid::regclass, c.attname) end as remedy
  from attached a
  join pg_attribute c on c.attrelid = a.oid and c.attname = a.options->'id'->>0 and datastream.has_numbers(a.oid, a.options)
  cross join lateral (
    -- The sequence of an identity column, or of a default.
    select d.objid as oid from pg_depend d
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = a.oid and d.refobjsubid = c.attnum and d.deptype = 'i'
    union
    select d.refobjid from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    where f.adrelid = a.oid and f.adnum = c.attnum and d.refobjid <> a.oid
  ) s
  join pg_class k on k.oid = s.oid and k.relkind = 'S'
  join pg_sequence q on q.seqrelid = s.oid
  join pg_namespace n on n.oid = k.relnamespace
  left join pg_sequences p on p.schemaname = n.nspname and p.sequencename = k.relname
)
select 'warning' as status,
       format('%s and %s will use the same ids: %s is at %s, %s at %s', one.relation, other.relation, one.name, one.position, other.name, other.position) as says,
       E'move one sequence to a range of its own, as the owner of its table:\n'
         || replace(other.remedy, '%s', (select 1000000000 * count(*) from attached a where a.id < other.id)::text) as remedy
from ids one join ids other on other.id > one.id and other.sequence <> one.sequence
where abs(other.position - one.position) < 100000000
  -- Odd and even numbers do not collide.
  and not (one.seqincrement = other.seqincrement and one.seqincrement <> 0 and (one.seqstart - other.seqstart) % one.seqincrement <> 0)
union all
-- Only for tables that this role may read.
select 'failed', format('%s and %s both contain round %s. Clients deduplicate by id and would drop one of them', one.relation, other.relation, s.id),
       'detach one of the tables, or give its rounds ids of another range'
from attached one join attached other on other.id > one.id
cross join lateral (
  -- In a case, because PostgreSQL may evaluate a condition later.
  select case when (select bool_and(has_table_privilege(c.oid, 'select') and has_schema_privilege(c.relnamespace, 'usage')) from pg_class c where c.oid in (one.oid, other.oid))
           and datastream.has_numbers(one.oid, one.options) and datastream.has_numbers(other.oid, other.options)
         then datastream.shared_id(one.oid::regclass::text, one.options->'id'->>0, other.oid::regclass::text, other.options->'id'->>0) end as id
) s
where s.id is not null
union all
-- Of the newest rows of the outbox.
select 'warning', format('%s has ids above 2^53 - 1, such as %s, which JavaScript cannot represent exactly', a.relation, n.round_id),
       E'send ids as strings (resume points of this table are lost):\n' || replace(a.again, ' --replace', '') || ' --id-text --replace'
from attached a
join lateral (
  select max(o.round_id) as round_id
  from (select b.attachment, b.round_id, b.round_key from datastream.outbox b
        order by b.xid desc, b.attachment desc, b.round_id desc, b.round_key desc limit 100000) o
  where o.attachment = a.id and o.round_key = ''
) n on n.round_id > 9007199254740991
