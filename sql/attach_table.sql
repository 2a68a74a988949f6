-- Attaches a table, or with $5 only computes the statements. Returns the statements, or no row if no change is needed.
-- $1 text: the table as an SQL identifier   $2 jsonb: the options (see datastream.attach)
-- $3 text: capture   $4 boolean: replace   $5 boolean: dry run
select statement
from (select $1::text::regclass as relation) as wanted
cross join lateral datastream.attach(wanted.relation, $2::text::jsonb, $3, $4, $5) as statement
