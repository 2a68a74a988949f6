#!/usr/bin/env bash
# WebTransport in real browsers against the real binary: Debian's Chromium and Firefox ESR.
# Installs what is missing (apt as root, npm), then prints `N passed, N failed`.
# usage: tests/browser/run.sh [chromium|firefox]
set -euo pipefail
cd "$(dirname "$0")"
source ./prepare.sh

exec "$scripts/with-database" node run.js "$@"
