# Browsers, node and the packages, for the scripts beside it; sourced.
scripts=../../scripts

"$scripts/need" "${CHROMIUM:-/usr/bin/chromium}" chromium
"$scripts/need" "${FIREFOX:-/usr/bin/firefox-esr}" firefox-esr
"$scripts/need" openssl openssl
"$scripts/need" psql postgresql-client
node=$("$scripts/node" "$("$scripts/state-dir")")
export PATH="$node:$PATH"
"$scripts/npm-packages" .
"$scripts/npm-packages" ../../clients/js
