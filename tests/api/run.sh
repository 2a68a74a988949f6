#!/usr/bin/env bash
# Validates /openapi.json and /asyncapi.json of a running server, then sends it requests that
# schemathesis generates from the former. Each answer must have a documented status, content type and
# body. The event streams are left out: their bodies do not end.
set -euo pipefail
cd "$(dirname "$0")"
scripts=$PWD/../../scripts
state=$("$scripts/state-dir")

if [ -z "${DATABASE_URL:-}" ]; then
  "$scripts/need" psql postgresql-client
  "$scripts/python-packages" "$state/api" requirements.txt
  node=$("$scripts/node" "$state")
  PATH="$node:$PATH" "$scripts/npm-packages" "$PWD"
  PATH="$node:$PATH" exec "$scripts/with-database" "$PWD/run.sh"
fi

folder=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export DATASTREAM_HTTP_ADDR=127.0.0.1:$port
"$PSQL" -Xqc "insert into rounds (game_id, finished_at) select id, now() from games, generate_series(1, 50)" "$DATABASE_URL"
DATASTREAM_WT_ENABLED=true DATASTREAM_WT_ADDR=127.0.0.1:0 "$DATASTREAM" serve 2>"$folder/log" &
server=$!
trap 'kill "$server"; rm -rf "$folder"' EXIT
for _ in $(seq 100); do "$DATASTREAM" health >/dev/null 2>&1 && break; sleep 0.1; done
"$DATASTREAM" health >/dev/null || { cat "$folder/log" >&2; exit 1; }

for document in openapi asyncapi; do
  python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' \
    "http://$DATASTREAM_HTTP_ADDR/$document.json" "$folder/$document.json"
done
bin=$state/api/bin
"$bin/openapi-spec-validator" "$folder/openapi.json"
node asyncapi.mjs "$folder/asyncapi.json"
# A fixed seed: the same requests in each run. Two workers, as CI has two cores.
"$bin/schemathesis" --config-file schemathesis.toml run "$folder/openapi.json" \
  --url "http://$DATASTREAM_HTTP_ADDR" --exclude-path-regex '^/sse' --phases examples,coverage,fuzzing \
  --seed 1 --workers 2 --max-examples 20 \
  --no-color --suppress-health-check all
kill -0 "$server"
