-- The game's tables go only where we made them and they hold nothing: data is never ours to drop.
set local lock_timeout = '2s';
-- Where a policy would hide rows from the look, it fails.
set local row_security = off;

do $$
declare
  made regclass[] := array(select relation from datastream.made);
begin
  -- The lock comes first, so that no row can slip in between the look and the drop.
  if to_regclass('public.rounds') = any (made) then
    lock table public.rounds in access exclusive mode;
    if not exists (select from public.rounds) then
      drop table public.rounds;
    end if;
  end if;
  if to_regclass('public.games') = any (made) and to_regclass('public.rounds') is null then
    lock table public.games in access exclusive mode;
    if not exists (select from public.games) then
      drop table public.games;
    end if;
  end if;
end
$$;

drop table if exists datastream.made;
