-- Their names.
select n.attachment, n.round_id, n.round_key from newest n
