#!/usr/bin/env bash
# How much of its main thread the live page needs, by a trace of Chromium: the bar is 30 % at 100 rounds a second.
# Fails above it. Keeps the trace in tests/browser/shots/trace.json; DevTools and ui.perfetto.dev open it.
# Installs what is missing (apt as root, npm).
# usage: tests/browser/trace.sh [ROUNDS_PER_SECOND] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")"
source ./prepare.sh

[ -n "${DATASTREAM:-}" ] || (cd ../.. && cargo build --quiet --bin datastream)
exec node trace.mjs "$@"
