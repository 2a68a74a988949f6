#!/usr/bin/env bash
# WebTransport in real browsers against the real binary: Debian's Chromium and Firefox ESR.
# Installs what is missing (apt as root, npm), then prints `N passed, N failed`.
# usage: tests/browser/run.sh [chromium|firefox]
set -euo pipefail
cd "$(dirname "$0")"
scripts=../../scripts

want=
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || want="$want chromium"
[ -x "${FIREFOX:-/usr/bin/firefox-esr}" ] || want="$want firefox-esr"
command -v node >/dev/null || want="$want nodejs"
command -v npm >/dev/null || want="$want npm"
command -v openssl >/dev/null || want="$want openssl"
command -v psql >/dev/null || want="$want postgresql-client"
# shellcheck disable=SC2086 # a list of words
[ -z "$want" ] || "$scripts/apt-install" $want
[ -d node_modules/playwright-core ] && [ -d node_modules/puppeteer-core ] || npm ci --no-audit --no-fund >/dev/null

exec "$scripts/with-database" node run.js "$@"
