# shellcheck shell=bash
# Django: makemigrations, migrate forwards and backwards, inspectdb, flush, test.
manage() { python manage.py "$@"; }
# The operations of a migration with our calls around them.
with_calls() {
  sed -i "s/^from django.db import.*/&\nfrom play.calls import AfterChange, BeforeChange/
    s/^    operations = \[/&\n        BeforeChange('$2'),/; s/^    \]$/        AfterChange('$2'),\n    ]/" "$1"
  # (The dependencies end with the same line.)
  sed -i "0,/^        AfterChange('$2'),$/{//d}" "$1"
}
round="insert into play_round (game_id, status, finished_at, extras) values (1, 'settled', now(), '{}') returning 'r:' || id"
spin="insert into play_spin (id, game_id, status, updated_at, extras) values (gen_random_uuid(), 1, 'settled', now(), '{}') returning 's:' || id"
hand="insert into play_hand select 1, coalesce(max(hand_no), 0) + 1, now(), 5, 1 from play_hand returning 'h:' || table_no || ':' || hand_no"

check 'the first migration is generated' manage makemigrations play
check 'the first migration runs' manage migrate
sql "insert into play_game values (1, 'crash', 'Crash', 'multiplier')"
check 'the tables are attached' attach play_game play_round play_spin play_hand
start_server
check 'rounds are streamed' streams "$round" "$spin" "$hand"
check 'no change is detected' manage makemigrations --check
check 'inspectdb runs' manage inspectdb --include-views
check 'and prints the game' said play_round
check 'and only the game' lacks "datastream\|attached" "$work/said"
export NOTE=1
check 'a column is added' manage makemigrations play -n note
check 'the addition runs' manage migrate
unset NOTE
check 'the addition is undone' manage migrate play 0001
rm play/migrations/0002_note.py
check 'rounds are streamed after it' streams "$round" "$spin" "$hand"
export KIND=99
check 'another type is generated' manage makemigrations play -n kind
check 'without our calls PostgreSQL refuses it' not manage migrate
check 'and names our view' said 'view datastream.attached_1_rounds depends on column "kind"'
with_calls play/migrations/0002_kind.py play_game
check 'with our calls it runs' manage migrate
check 'rounds are streamed with the other type' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after it' healthy
check 'it is undone' manage migrate play 0001
check 'rounds are streamed after it was undone' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after that' healthy
check 'the tests run on a database without our schema' manage test
check 'flush empties the tables' manage flush --noinput
sql "insert into play_game values (1, 'crash', 'Crash', 'multiplier')"
check 'rounds are streamed after flush' streams "$round"
