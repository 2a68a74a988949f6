#!/usr/bin/env bash
# The JavaScript client and the live page in real browsers against the real binary.
# Installs what is missing (apt as root, npm), then prints `N passed, N failed`.
# usage: tests/browser/client.sh [TEXT]: only the cases with it in their names
set -euo pipefail
cd "$(dirname "$0")"
source ./prepare.sh

[ -n "${DATASTREAM:-}" ] || (cd ../.. && cargo build --quiet --bin datastream)
exec node client-run.mjs "$@"
