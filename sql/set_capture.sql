-- Attaches an attached table again with another capture mode and its other options unchanged. Returns the statements, or no
-- row if no change is needed.
-- $1 text: the table   $2 text: auto, notify or poll   $3 boolean: dry run
select statement
from datastream.attached a
cross join lateral datastream.attach(a.relation::regclass, a.options, $2, true, $3) as statement
where a.relation = $1
