-- The applied migrations. PostgreSQL refuses this query (42P01, undefined_table) if there is no schema datastream, or if an
-- earlier text of the migrations made the schema.
-- Columns: version bigint; compatible boolean: a program that does not have this migration may use the schema.
select m.version, c.version is not null as compatible
from datastream._sqlx_migrations m left join datastream.compatible_migrations c on c.version = m.version
where m.success
order by m.version
