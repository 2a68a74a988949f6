-- Gives the objects that `attach` created to the owner of the schema, and lets the readers of the outbox read them. Changes
-- nothing if one role owns everything. Run it after attaching, in the same transaction.
do $$
begin
  perform datastream.adopt();
end
$$;
