#!/usr/bin/env bash
# WebTransport against aioquic, a client that shares no code with the server: statuses, close codes,
# and misbehavior. Installs what is missing (apt as root, pip), then prints `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
scripts=../../scripts

python3 -m pip --version >/dev/null 2>&1 || "$scripts/need" pip3 python3-pip
"$scripts/need" psql postgresql-client
export PYTHONPATH=$PWD/packages PYTHONDONTWRITEBYTECODE=1
# Imported, not looked for: another python than the one it was built for cannot use it.
if ! python3 -c 'import aioquic.h3.connection' 2>/dev/null; then
  rm -rf packages
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --only-binary :all: \
    --target packages -r requirements.txt
fi
exec "$scripts/with-database" python3 run.py "$@"
