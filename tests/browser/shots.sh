#!/usr/bin/env bash
# Screenshots of the live page in its states, in tests/browser/shots, to look at. With --docs also those of README and docs.
# Installs what is missing (apt as root, npm).
# usage: tests/browser/shots.sh [--docs]
set -euo pipefail
cd "$(dirname "$0")"
source ./prepare.sh

[ -n "${DATASTREAM:-}" ] || (cd ../.. && cargo build --quiet --bin datastream)
exec node shots.mjs "$@"
