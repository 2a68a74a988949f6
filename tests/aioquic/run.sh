#!/usr/bin/env bash
# WebTransport against aioquic, a client that shares no code with the server: statuses, close codes,
# and misbehavior. Installs what is missing (apt as root, pip), then prints `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
scripts=../../scripts

want=
python3 -m pip --version >/dev/null 2>&1 || want="$want python3-pip"
command -v psql >/dev/null || want="$want postgresql-client"
# shellcheck disable=SC2086 # a list of words
[ -z "$want" ] || "$scripts/apt-install" $want
[ -d packages/aioquic ] || python3 -m pip install --quiet --root-user-action ignore --target packages -r requirements.txt

export PYTHONPATH=$PWD/packages PYTHONDONTWRITEBYTECODE=1
exec "$scripts/with-database" python3 run.py "$@"
