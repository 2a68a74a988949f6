-- Drops the game's tables only if a migration made them and they are empty: the rows belong to the game.
set local lock_timeout = '2s';
-- If a policy could hide rows, the query for rows fails instead of finding none.
set local row_security = off;

do $$
declare
  made regclass[] := array(select relation from datastream.made);
begin
  -- The lock comes first, so that nobody inserts a row between the query and the drop.
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
