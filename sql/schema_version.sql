-- The migrations that are applied. PostgreSQL refuses it (42P01, undefined_table) where there is no schema datastream, and
-- where an earlier text of the migrations made the schema.
-- Columns: version bigint; compatible boolean: a program that does not know it may go on using the schema.
select m.version, c.version is not null as compatible
from datastream._sqlx_migrations m left join datastream.compatible_migrations c on c.version = m.version
where m.success
order by m.version
