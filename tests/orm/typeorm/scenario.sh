# shellcheck shell=bash
# TypeORM: migration:generate, run and revert, schema:log and schema:sync, schema:drop.
orm() { typeorm "$@" -d data-source.js; }
generate() { orm migration:generate "migrations/$1" --outputJs; }
# A migration with our calls around each direction. TypeORM changes a length by dropping the column and adding it again.
with_calls() {
  sed -i "s#^ *async \(up\|down\)(queryRunner) {#&\n        await require('$PWD/calls.js').beforeChange(queryRunner, '$2');#
    s#^    }\$#        await require('$PWD/calls.js').afterChange(queryRunner, '$2');\n    }#" migrations/*"-$1.js"
}
# The statement that keeps the column's values, in place of those that drop it.
keeping() {
  sed -i "/DROP COLUMN/d; s/ADD \"kind\" character varying(99) NOT NULL/ALTER \"kind\" TYPE character varying(99)/
    s/ADD \"kind\" character varying NOT NULL/ALTER \"kind\" TYPE character varying/" migrations/*"-$1.js"
}
round="insert into rounds (game_id, status, finished_at) values (1, 'settled', now()) returning 'r:' || id"
spin="insert into spins (game_id, status) values (1, 'settled') returning 's:' || id"
hand="insert into hands select 1, coalesce(max(hand_no), 0) + 1, 1, now(), 5 from hands returning 'h:' || table_no || ':' || hand_no"

mkdir -p migrations
check 'the first migration is generated' generate first
check 'the first migration runs' orm migration:run
sql "insert into games values (1, 'crash', 'Crash', 'multiplier')"
check 'the tables are attached' attach games rounds spins hands
start_server
check 'rounds are streamed' streams "$round" "$spin" "$hand"
check 'with our indexes declared there is nothing to synchronize' orm schema:log
check 'as it says' said 'schema is up to date'
PLAIN=1 check 'without them' orm schema:log
check 'our indexes would be dropped' said 'DROP INDEX "public"."datastream_latest_1"'
export NOTE=1
check 'a column is added' generate note
check 'the file has none of our objects' lacks datastream migrations
check 'the addition runs' orm migration:run
check 'rounds are streamed after it' streams "$round" "$spin" "$hand"
export VOID=1
check 'synchronize adds a value to the enum of our condition' orm schema:sync
check 'rounds are streamed after that' streams "$round" "$spin" "$hand"
export KIND=99
check 'another length is generated' generate kind
check 'without our calls PostgreSQL refuses it' not orm migration:run
check 'and names our view' said 'datastream.attached_1_rounds depends on column kind'
keeping kind
with_calls kind games
check 'with our calls it runs' orm migration:run
check 'rounds are streamed with the other length' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after it' healthy
check 'it is reverted' orm migration:revert
check 'rounds are streamed after that too' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after that' healthy
"$PSQL" -Xqc 'create database typeorm_test' postgres
DATABASE=typeorm_test check 'the migrations run on a database without our schema' orm migration:run
unset NOTE VOID KIND
check 'the schema is dropped' orm schema:drop
check 'and made again' orm schema:sync
sql "insert into games values (1, 'crash', 'Crash', 'multiplier')"
check 'the tables are attached again' attach games rounds spins hands
check 'rounds are streamed from the new tables' streams "$round" "$spin"
