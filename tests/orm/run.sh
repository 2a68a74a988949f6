#!/usr/bin/env bash
# Migration tools beside our schema: each makes a game's tables, which are attached, and then does what its users do. Takes the
# snippets of docs/migration-tools.md. Installs what is missing (pip, npm), then prints `N passed, N failed`.
# usage: run.sh [alembic] [django] [prisma] [typeorm]
set -euo pipefail
cd "$(dirname "$0")"
scripts=$PWD/../../scripts
state=$("$scripts/state-dir")

"$scripts/python-packages" "$state/orm" requirements.txt
"$scripts/npm-packages" .
"$scripts/need" curl curl
export PATH="$state/orm/bin:$PWD/node_modules/.bin:$PATH" PYTHONDONTWRITEBYTECODE=1
[ $# -gt 0 ] || set -- alembic django prisma typeorm
exec "$scripts/with-database" ./each.sh "$@"
