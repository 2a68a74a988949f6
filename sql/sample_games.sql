-- Inserts the four sample games. For psql. You may run it again.
insert into public.games (slug, name, type) values
  ('crash', 'Crash', 'multiplier'),
  ('slot', 'Slot', 'multiplier'),
  ('double', 'Double', 'color'),
  ('wall-street', 'Wall Street', 'trend')
on conflict (slug) do nothing;
