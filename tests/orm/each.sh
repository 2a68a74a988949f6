#!/usr/bin/env bash
# Runs the scenario of each named tool, with a database of its own. Called by run.sh.
set -euo pipefail
here=$PWD
export RUST_LOG=warn
work=$(mktemp -d)
passed=0
failed=0
trap 'stop_server; rm -rf "$work"' EXIT

sql() { "$PSQL" -Xqtc "$1" -v ON_ERROR_STOP=1 "$tool"; }

# A command that must succeed, or (`not`) fail. The next check finds its output in $work/said.
check() {
  local name="$tool: $1" wanted=0 status=0
  shift
  [ "$1" != not ] || { wanted=1; shift; }
  "$@" >"$work/says" 2>&1 </dev/null || status=1
  if [ "$status" -eq "$wanted" ]; then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    echo "FAILED  $name"
    tail -n 30 "$work/says"
  fi
  cp "$work/says" "$work/said"
}

said() { grep -q -- "$1" "$work/said"; }
lacks() { ! grep -rq -- "$1" "${@:2}"; }

# Attaches the three tables, one in each capture mode: a bigint, a uuid and a composite key.
attach() {
  local games=$1 rounds=$2 spins=$3 hands=$4 kind=(--games-type kind --index)
  "$DATASTREAM" attach --table "$rounds" --games "$games" "${kind[@]}" --finished-when "status = 'settled'" --id-prefix r --capture auto
  "$DATASTREAM" attach --table "$spins" --games "$games" "${kind[@]}" --finished-at updated_at --finished-when "status = 'settled'" --id-prefix s --capture poll
  "$DATASTREAM" attach --table "$hands" --games "$games" "${kind[@]}" --id table_no,hand_no --extras-columns bet --id-prefix h --capture notify
}

server=
start_server() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  address=http://127.0.0.1:$port
  "$DATASTREAM" serve --http-addr "127.0.0.1:$port" >"$work/server" 2>&1 &
  server=$!
  curl -sf --retry 60 --retry-delay 1 --retry-all-errors "$address/readyz" >/dev/null
  curl -sN "$address/sse?seed=none" >"$work/events" 2>/dev/null &
  listener=$!
  # The comment with which a stream without a seed begins.
  within test -s "$work/events"
}
stop_server() {
  [ -z "$server" ] || kill "$server" "$listener" 2>/dev/null || true
  server=
}

# Waits until a command succeeds, at most a minute.
within() {
  local end=$((SECONDS + 60))
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

# A round of each table reaches the client. The statements end with `returning` the id as it is sent. An emptied table may give an
# id again, so only what arrives from here on counts.
streams() {
  local before id
  for statement in "$@"; do
    before=$(wc -l <"$work/events")
    id=$(sql "$statement" | tr -d ' \n')
    within arrived "$before" "$id" || { echo "round $id did not arrive"; return 1; }
  done
}
arrived() { tail -n "+$(($1 + 1))" "$work/events" | grep -q "\"round_id\":\"$2\""; }

# doctor fails nothing, and the three indexes are there.
healthy() {
  "$DATASTREAM" doctor && [ "$(sql "select count(*) from pg_index where indexrelid::regclass::text ~ 'datastream_latest_[123]' and indisvalid" | tr -d ' \n')" = 3 ]
}

for tool in "$@"; do
  "$PSQL" -Xqc "create database $tool" postgres
  export DATABASE_URL="postgres://postgres@/$tool?host=$PGHOST"
  rm -rf "${work:?}/$tool"
  cp -r "$here/$tool" "$work/$tool"
  ln -sfn "$here/node_modules" "$work/node_modules"
  unset NOTE KIND VOID PLAIN
  cd "$work/$tool"
  # shellcheck source=/dev/null
  . ./scenario.sh
  stop_server
  cd "$here"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
