set local lock_timeout = '2s';

do $$
begin
  if exists (select from datastream.attached where relation = 'public.rounds') then
    perform datastream.detach('public.rounds');
  end if;
end
$$;
