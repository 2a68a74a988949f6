-- The finished rounds of these ids, in no order: for what the outbox names without a payload.
-- $1 bigint[]: round ids. A round that is missing in the answer was deleted, or is unfinished again.
-- Columns: round_id bigint, game_id bigint, game_slug text, game_type text,
--          finished_micros bigint (null: infinity), extras text.
select f.round_id::bigint as round_id, f.game_id::bigint as game_id, f.game_slug, f.game_type,
       datastream.micros(f.finished_at) as finished_micros, f.extras
from datastream.rounds_by_id($1::bigint[]) f
