-- What the game does, and does wrong: for psql, which prints what PostgreSQL says to each.
\set VERBOSITY verbose
set search_path = "Casino Night";
insert into "Rounds" ("Title Id", state, outcome) values (1, 'done', '{"point": 1.5}') returning "Round", state, "Closed ""At""" is not null as closed;
insert into "Rounds" ("Title Id") values (1), (2), (3);
update "Rounds" set state = 'done', outcome = '[1, 2]' where state = 'open' and "Title Id" < 3 returning "Round";
update "Rounds" set outcome = '{}' where state = 'done';
update "Rounds" set state = 'open', "Closed ""At""" = null where "Round" = 1;
update "Rounds" set state = 'done' where "Round" = 1;
update "Rounds" set stake = stake + 1 where "Round" = 77;
insert into "Rounds" ("Title Id", "Started", state) values (1, '2026-02-03Z', 'done'), (2, '1999-01-01Z', 'done');
insert into "Rounds 2026-02" ("Title Id", "Started", state) values (3, '2026-02-04Z', 'done');
insert into other_times ("Title Id", "Started", state) values (3, '2031-02-04Z', 'done');
update "Rounds" set "Started" = '2026-02-20Z' where "Round" = 1;
insert into "Rounds" ("Round", "Title Id", "Started", state) values (1, 1, '2026-02-20Z', 'done');
insert into "Rounds" ("Round", "Title Id", "Started", state) values (1, 1, '2026-02-20Z', 'done') on conflict do nothing;
insert into "Rounds" ("Title Id", state) values (9, 'done');
insert into "Rounds" ("Title Id", state) values (4, 'done');
insert into "Rounds" ("Title Id", state) values (1, 'lost');
insert into "Rounds" ("Title Id", state, stake) values (1, 'done', 0);
insert into "Rounds" ("Title Id", state, outcome) values (1, 'done', '{not json');
insert into "Rounds" (state) values ('done');
insert into "Rounds 2026-02" ("Title Id", "Started", state) values (3, '2026-01-04Z', 'done');
begin;
insert into "Rounds" ("Title Id", state) values (2, 'done');
savepoint a;
insert into "Rounds" ("Title Id", state) values (2, 'done'), (9, 'done');
rollback to a;
insert into "Rounds" ("Title Id", state) values (2, 'done');
release a;
commit;
begin;
insert into "Rounds" ("Title Id", state) values (3, 'done');
select 1 / 0;
insert into "Rounds" ("Title Id", state) values (3, 'done');
commit;
begin isolation level serializable;
insert into "Rounds" ("Title Id", state) select 1, 'done' from generate_series(1, 20);
commit;
begin read only;
insert into "Rounds" ("Title Id", state) values (3, 'done');
rollback;
prepare finish (bigint, text) as insert into "Rounds" ("Title Id", state, outcome) values ($1, 'done', to_jsonb($2)) returning "Round";
execute finish (1, repeat('x', 20000));
execute finish (2, 'é');
execute finish (9, 'é');
deallocate finish;
with done as (insert into "Rounds" ("Title Id", state) values (1, 'done'), (2, 'done') returning "Round"),
  spun as (insert into "Wheel Spins" (sector) select "Round" from done returning id)
select count(*), min(id) from spun;
copy "Wheel Spins" (sector, note) from stdin;
7	seven
8	\N
\.
copy "Wheel Spins" (sector, note) from stdin;
9	nine
x	no number
\.
copy "Rounds" ("Title Id", state) from stdin;
1	done
\.
insert into "Wheel Spins" (id, sector) values (1000000001, 5);
insert into "Wheel Spins" (sector, ended) values (3, 'infinity'), (4, null);
update "Wheel Spins" set ended = '2026-01-15 12:00' where ended is null;
delete from "Wheel Spins" where sector = 3;
delete from "Rounds" where "Title Id" = 3;
truncate "Wheel Spins";
select pg_notify('of_the_game', 'word');
select "Round", "Title Id", "Started" at time zone 'UTC', state, outcome is null, stake from "Rounds" order by 1, 3;
select id, sector, note from "Wheel Spins" order by 1;
select * from statistics order by 1;
