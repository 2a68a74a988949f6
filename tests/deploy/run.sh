#!/usr/bin/env bash
# The files of deploy/: alerts and dashboard against Prometheus and a running server, Kubernetes against
# its schemas, the unit against systemd, Caddy in front of a server. (nginx: tests/deployment.rs.)
# Prints `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
project=$(cd ../.. && pwd -P)
scripts=$project/scripts
state=$("$scripts/state-dir")

if [ -z "${DATABASE_URL:-}" ]; then
  "$scripts/need" psql postgresql-client
  "$scripts/need" curl curl
  "$scripts/python-packages" "$state/deploy" requirements.txt
  PROM=$("$scripts/promtool" "$state")
  KUBECTL=$("$scripts/kubectl" "$state")
  "$scripts/debian-unpacked" "$state/caddy" caddy
  export PROM KUBECTL
  exec "$scripts/with-database" "$PWD/run.sh" "$@"
fi

deploy=$project/deploy
folder=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { for _ in $(seq 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; "$@"; }
passed=0 failed=0
check() {
  local name=$1
  shift
  if "$@" >"$folder/out" 2>&1; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED  $name"
    tail -n 30 "$folder/out"
  fi
}

export DATASTREAM_HTTP_ADDR
DATASTREAM_HTTP_ADDR=127.0.0.1:$(port)
"$DATASTREAM" serve 2>"$folder/log" &
pids+=($!)
until_true "$DATASTREAM" health
finish_rounds() { "$PSQL" -XAtqc "insert into rounds (game_id, finished_at) select id, now() from games where slug = 'crash' returning id" play; }
finish_rounds >/dev/null

# --- Prometheus ----------------------------------------------------------------------------------
promtool=$PROM/promtool
check 'the alerts are valid' "$promtool" check rules "$deploy/prometheus/alerts.yml"
check 'each alert fires and stays quiet' "$promtool" test rules "$deploy/prometheus/alerts_test.yml"
metrics_are_clean() {
  curl -fsS -H 'Accept: text/plain; version=0.0.4' "http://$DATASTREAM_HTTP_ADDR/metrics" >"$folder/metrics"
  "$promtool" check metrics <"$folder/metrics"
}
check 'promtool check metrics is clean' metrics_are_clean

sed "s/'datastream-1:9090', 'datastream-2:9090'/'$DATASTREAM_HTTP_ADDR'/; s/15s/250ms/" "$deploy/prometheus/scrape.yml" >"$folder/prometheus.yml"
cp "$deploy/prometheus/alerts.yml" "$folder/"
check 'the scrape example is valid' "$promtool" check config "$folder/prometheus.yml"
prometheus=127.0.0.1:$(port)
"$PROM/prometheus" --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/tsdb" \
  --web.listen-address="$prometheus" --log.level=error >"$folder/prometheus.log" 2>&1 &
pids+=($!)
for _ in 1 2 3 4 5 6; do finish_rounds >/dev/null; sleep 0.5; done
check 'every panel of the dashboard has data' python3 dashboard.py check "http://$prometheus"

# --- Kubernetes ----------------------------------------------------------------------------------
for overlay in base overlays/single overlays/bus; do
  built() { "$KUBECTL" kustomize "$deploy/kubernetes/$overlay" >"$folder/built.yaml"; }
  check "kustomize builds $overlay" built
  check "Kubernetes accepts $overlay" "$state/deploy/bin/kubernetes-validate" -k 1.35 --strict --quiet "$folder/built.yaml"
done

# --- systemd -------------------------------------------------------------------------------------
if command -v systemd-analyze >/dev/null; then
  sed "s#/usr/local/bin/datastream#$DATASTREAM#" "$deploy/systemd/datastream.service" >"$folder/datastream.service"
  # It writes faults and ends with 0.
  unit_is_clean() { systemd-analyze verify "$folder/datastream.service"; ! grep -q "datastream.service:" "$folder/out"; }
  check 'systemd accepts the unit' unit_is_clean
else
  echo 'skipped: no systemd-analyze'
fi

# --- Caddy ---------------------------------------------------------------------------------------
caddy=127.0.0.1:$(port)
# Without its certificate, and without the administration port, which may be in use.
sed "s/^datastream.example.com/http:\/\/$caddy/; s/127.0.0.1:3000/$DATASTREAM_HTTP_ADDR/; 0,/^{/s//{\n\tadmin off/" \
  "$deploy/caddy/Caddyfile" >"$folder/Caddyfile"
HOME=$folder "$state/caddy/usr/bin/caddy" run --config "$folder/Caddyfile" --adapter caddyfile >"$folder/caddy.log" 2>&1 &
pids+=($!)
until_true curl -fsS "http://$caddy/healthz"
through_caddy() {
  local id
  curl -sN --max-time 10 "http://$caddy/sse/crash" >"$folder/sse" &
  pids+=($!)
  until_true grep -q '^event: initial' "$folder/sse"
  id=$(finish_rounds)
  until_true grep -q "^id: $id\$" "$folder/sse"
}
check 'an event passes Caddy at once' through_caddy
websocket_passes_caddy() {
  # The WebSocket stays open: curl ends by its limit, with the status of the answer.
  { curl -s -o /dev/null -w '%{http_code}\n' --max-time 1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "http://$caddy/ws/crash" || true; } | grep -q 101
}
check 'a WebSocket passes Caddy' websocket_passes_caddy
metrics_are_closed() { [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$caddy/metrics")" = 404 ]; }
check 'Caddy closes /metrics' metrics_are_closed
closed_without_an_answer() {
  kill "${pids[0]}"
  wait "${pids[0]}" || true
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$caddy/sse/crash")" = 000 ]
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$caddy/healthz")" = 502 ]
}
check 'Caddy closes an event stream without an answer while the server is away' closed_without_an_answer

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
