# shellcheck shell=bash
# Alembic: autogenerate, check, upgrade, downgrade.
alembic -q init migrations >/dev/null
sed -i 's/^prepend_sys_path.*/prepend_sys_path = ./' alembic.ini
cp env.py migrations/env.py
# The file of a revision, with our calls around its statements.
with_calls() {
  sed -i "s/^from alembic import op/&\nfrom calls import after_change, before_change/
    s/^\( *\)# ### commands auto generated.*/\1before_change('$2')/; s/^\( *\)# ### end Alembic.*/\1after_change('$2')/" "migrations/versions/$1_$1.py"
}
round="insert into rounds (game_id, status, finished_at, extras) values (1, 'settled', now(), '{}') returning 'r:' || id"
spin="insert into spins (id, game_id, status, extras) values (gen_random_uuid(), 1, 'settled', '{}') returning 's:' || id"
hand="insert into hands select 1, coalesce(max(hand_no), 0) + 1, 1, now(), 5 from hands returning 'h:' || table_no || ':' || hand_no"

check 'the first migration is generated' alembic -q revision --autogenerate -m first --rev-id first
check 'the first migration runs' alembic -q upgrade head
sql "insert into games values (1, 'crash', 'Crash', 'multiplier')"
check 'the tables are attached' attach games rounds spins hands
start_server
check 'rounds are streamed' streams "$round" "$spin" "$hand"
check 'with include_name no change is detected' alembic check
export PLAIN=1
check 'without it our schema and index would be dropped' not alembic check
check 'the reason is our index' said datastream_latest_1
unset PLAIN
export NOTE=1
check 'a column is added' alembic -q revision --autogenerate -m note --rev-id note
check 'the file has none of our objects' lacks datastream migrations/versions/note_note.py
check 'the addition runs' alembic -q upgrade head
check 'rounds are streamed after it' streams "$round" "$spin" "$hand"
export KIND=99
check 'another type is generated' alembic -q revision --autogenerate -m kind --rev-id kind
check 'without our calls PostgreSQL refuses it' not alembic -q upgrade head
check 'and names our view' said 'view datastream.attached_1_rounds depends on column "kind"'
with_calls kind games
check 'with our calls it runs' alembic -q upgrade head
check 'rounds are streamed with the other type' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after it' healthy
check 'the downgrades run' alembic -q downgrade first
check 'rounds are streamed after the downgrades' streams "$round" "$spin" "$hand"
unset NOTE KIND
check 'doctor finds nothing after the downgrades' healthy
"$PSQL" -Xqc 'create database alembic_test' postgres
check 'the migrations run on a database without our schema' env "DATABASE_URL=postgres://postgres@/alembic_test?host=$PGHOST" alembic -q upgrade head
