#!/usr/bin/env bash
# The JavaScript client and the live page in real browsers against the real binary.
# Installs what is missing (apt as root, npm), then prints `N passed, N failed`.
# usage: tests/browser/client.sh [TEXT]: only the cases with it in their names
set -euo pipefail
cd "$(dirname "$0")"

want=
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || want="$want chromium"
[ -x "${FIREFOX:-/usr/bin/firefox-esr}" ] || want="$want firefox-esr"
command -v node >/dev/null || want="$want nodejs"
command -v npm >/dev/null || want="$want npm"
command -v psql >/dev/null || want="$want postgresql-client"
# shellcheck disable=SC2086 # a list of words
[ -z "$want" ] || ../../scripts/apt-install $want
[ -d node_modules/axe-core ] && [ -d node_modules/playwright-core ] && [ -d node_modules/puppeteer-core ] ||
  npm ci --no-audit --no-fund >/dev/null
[ -d ../../clients/js/node_modules/esbuild ] || (cd ../../clients/js && npm ci --no-audit --no-fund >/dev/null)
[ -n "${DATASTREAM_BIN:-}" ] || (cd ../.. && cargo build --quiet --bin datastream)

exec node client-run.mjs "$@"
