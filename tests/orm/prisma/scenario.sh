# shellcheck shell=bash
# Prisma: migrate dev with its shadow database, deploy, status, db pull, db push.
# The schema engine that Prisma downloads is replaced by the one in WebAssembly that the package has: see prisma.config.ts.
touch none.node
export PRISMA_QUERY_ENGINE_LIBRARY=$PWD/none.node PRISMA_HIDE_UPDATE_MESSAGE=1 CHECKPOINT_DISABLE=1
PRISMA_SCHEMA_ENGINE_BINARY=$(type -P true)
export PRISMA_SCHEMA_ENGINE_BINARY
round="insert into rounds (game_id, status, finished_at) values (1, 'settled', now()) returning 'r:' || id"
spin="insert into spins (id, game_id, status, updated_at) values (gen_random_uuid(), 1, 'settled', now()) returning 's:' || id"
hand="insert into hands select 1, coalesce(max(hand_no), 0) + 1, 1, now(), 5 from hands returning 'h:' || table_no || ':' || hand_no"

check 'the first migration is made' prisma migrate dev --name first
sql "insert into games values (1, 'crash', 'Crash', 'multiplier')"
check 'the tables are attached' attach games rounds spins hands
start_server
check 'rounds are streamed' streams "$round" "$spin" "$hand"
check 'migrate dev sees no drift' prisma migrate dev --name again
check 'as it says' said 'Already in sync'
sed -i 's/^  bet .*/&\n  note String?/' schema.prisma
check 'a column is added' prisma migrate dev --name note
check 'the file has none of our objects' lacks datastream migrations
hand=${hand/now(), 5/now(), 5, null}
check 'rounds are streamed after it' streams "$round" "$spin" "$hand"
sed -i 's/^  kind .*/  kind String @db.VarChar(99)/' schema.prisma
check 'without our calls PostgreSQL refuses another type' not prisma db push --skip-generate --accept-data-loss
check 'and names our view' said 'cannot alter type of a column used by a view'
mkdir migrations/30000101000000_kind
cp kind.sql migrations/30000101000000_kind/migration.sql
check 'with our calls it is deployed' prisma migrate deploy
check 'and runs in the shadow database' prisma migrate dev --name nothing
check 'as it says' said 'Already in sync'
check 'it is applied' prisma migrate status
check 'as it says' said 'schema is up to date'
check 'rounds are streamed with the other type' streams "$round" "$spin" "$hand"
check 'doctor finds nothing after it' healthy
check 'db pull reads the tables' prisma db pull --force
check 'and none of our objects' lacks datastream schema.prisma
check 'db push has nothing to do' prisma db push --skip-generate
check 'rounds are streamed after that' streams "$round" "$spin" "$hand"
mkdir migrations/30000102000000_kind
sed -n '/ALTER TABLE/p' kind.sql | sed 's/99/98/' >migrations/30000102000000_kind/migration.sql
check 'a deployment without our calls fails' not prisma migrate deploy
cp kind.sql migrations/30000102000000_kind/migration.sql
check 'it is marked as rolled back' prisma migrate resolve --rolled-back 30000102000000_kind
check 'and deployed with them' prisma migrate deploy
check 'as it says' said 'have been successfully applied'
check 'rounds are streamed after it' streams "$round" "$spin" "$hand"
check 'doctor finds nothing at the end' healthy
