-- The shell commands that replace the schema and attach each table again. doctor/attached_tables.sql comes before it.
-- Columns: commands text.
select array_to_string('{datastream migrate --revert}'::text[]
    -- `attach` makes the schema, too, and no tables of a game.
    || array(select 'datastream migrate'::text
             where exists (select from datastream.made) or not exists (select from attached a where a.relation <> 'public.rounds'))
    || array(select a.again || case when a.relation = 'public.rounds' and a.again !~ ' --replace' then ' --replace' else '' end || ' --index'
             from attached a order by a.id), ' && ') as commands
