-- The ids of the rounds of newest.sql.
select n.attachment, n.round_id, n.round_key from newest n
