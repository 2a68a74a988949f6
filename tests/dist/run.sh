#!/usr/bin/env bash
# Installs an archive of `make dist` in a bare Debian (debootstrap, as root), or without root in a folder,
# then starts, upgrades and removes it, with a stream that resumes across the upgrade.
# usage: run.sh ARCHIVE [--here]      --here: in a folder, even as root
set -euo pipefail
archive=$(realpath "${1:?usage: run.sh ARCHIVE [--here]}")
cd "$(dirname "$0")"
scripts=$PWD/../../scripts
if [ -z "${DATABASE_URL:-}" ]; then shift; exec "$scripts/with-database" "$PWD/run.sh" "$archive" "$@"; fi
state=$("$scripts/state-dir")

folder=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  if mountpoint -q "$folder/root/run/postgresql"; then umount "$folder/root/run/postgresql"; fi
  rm -rf "$folder"
}
trap finish EXIT
begun=$(date +%s%N)
step() { printf '%6d ms  %s\n' $((($(date +%s%N) - begun) / 1000000)) "$1"; }
fail() { echo "FAILED  $1" >&2; exit 1; }

root=$folder/root
mkdir -p "$root"
if [ "$(id -u)" -eq 0 ] && [ "${2:-}" != --here ]; then
  "$scripts/need" debootstrap debootstrap
  base=$state/debian-trixie.tar
  if [ ! -e "$base" ]; then
    debootstrap --variant=minbase trixie "$root" >/dev/null
    tar -C "$root" -cf "$base.part" . && mv "$base.part" "$base"
  else
    tar -C "$root" -xf "$base"
  fi
  mkdir -p "$root/run/postgresql"
  mount --bind "$PGHOST" "$root/run/postgresql"
  inside() { chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin "$@"; }
  url="postgres://postgres@/play?host=/run/postgresql"
  where='a bare Debian'
  config=/etc/datastream prefix=/usr/local
else
  inside() { env -i PATH="$PATH" PREFIX="$root/usr/local" CONFIG="$root/etc/datastream" UNITS="$root/etc/systemd/system" "$@"; }
  url=$DATABASE_URL
  where='a folder'
  config=$root/etc/datastream prefix=$root/usr/local
fi
step "ready: $where"
inside_path() { if [ "$where" = 'a folder' ]; then echo "$1"; else echo "${1#"$root"}"; fi; }

tar -C "$root" -xzf "$archive"
unpacked=$(inside_path "$(echo "$root"/datastream-*)")
# Folders may be missing.
files() { (cd "$root" && { find usr/local etc/systemd etc/datastream ! -type d 2>/dev/null || true; } | LC_ALL=C sort); }
before=$(files)
inside "$unpacked/install" | tee "$folder/out"
grep -q 'Set DATABASE_URL in' "$folder/out" || fail 'a first installation does not say what to set'
step 'installed'

env=$root${config#"$root"}/datastream.env
[ "$(stat -c %a "$env")" = 600 ] || fail "others can read $env"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf '%s\n' "DATABASE_URL=$url" "DATASTREAM_HTTP_ADDR=127.0.0.1:$port" >>"$env"
# As systemd does: the unit's program with the variables of the file.
unit=$root/etc/systemd/system/datastream.service
read -r program arguments < <(sed -n 's/^ExecStart=//p' "$unit")
run() { mapfile -t settings < <(grep -v '^#\|^$' "$env"); inside "${settings[@]}" "$program" "$@"; }
run doctor >"$folder/doctor" || { cat "$folder/doctor"; fail 'doctor'; }
run config | grep -q "DATASTREAM_HTTP_ADDR *127.0.0.1:$port *environment" || fail 'config'
start() {
  mapfile -t settings < <(grep -v '^#\|^$' "$env")
  # Not `run`: the shell would be the process that is stopped.
  if [ "$where" = 'a folder' ]; then
    env -i "${settings[@]}" "$program" "$arguments" 2>>"$folder/log" &
  else
    chroot "$root" env -i "${settings[@]}" "$program" "$arguments" 2>>"$folder/log" &
  fi
  server=$!
  for _ in $(seq 100); do if run health >/dev/null 2>&1; then return; fi; sleep 0.1; done
  cat "$folder/log" >&2
  fail 'the server is not ready within 10 s'
}
stop() { kill "$server"; wait "$server" || fail "the server stopped with status $?"; server=; }
finish_round() { "$PSQL" -XAtqc "insert into rounds (game_id, finished_at) select id, now() from games where slug = 'crash' returning id" play; }
# The ids of the first N rounds of a stream.
stream() {
  local ids=
  curl -sN --max-time 20 "http://127.0.0.1:$port/sse/crash$1" >"$folder/stream" &
  for _ in $(seq 150); do
    ids=$(sed -n 's/^id: //p' "$folder/stream" | head -n "$2")
    [ "$(grep -c . <<<"$ids")" -lt "$2" ] || break
    sleep 0.1
  done
  kill $!
  echo "$ids"
}

start
step 'started and ready'
first=$(finish_round)
[ "$(stream '' 1)" = "$first" ] || fail 'the first round does not arrive'
step 'the first round arrived'

missed=$(finish_round)
inside "$unpacked/install" >"$folder/out"
if grep -q 'Set DATABASE_URL in' "$folder/out"; then fail 'an upgrade asks for settings'; fi
grep -q "^DATABASE_URL=$url" "$env" || fail 'an upgrade changed the settings'
stop
start
[ "$(stream "?after=$first" 1)" = "$missed" ] || fail 'the stream does not resume after the upgrade'
step 'upgraded, and a stream resumed'

stop
inside "$unpacked/install" --remove
[ "$(files)" = "$(printf '%s' "$before${before:+$'\n'}etc/datastream/datastream.env" | LC_ALL=C sort)" ] || { files; fail 'files are left'; }
step 'removed'
echo "1 passed, 0 failed (in $where)"
