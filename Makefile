# Everything a developer needs: `make` lists it. A fresh Debian or Ubuntu with Rust is enough.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What is fetched and what the demo plays is kept here; see the script for the one exception.
STATE := $(shell scripts/state-dir)
# Flags for the demo, such as ARGS='--speed 5'.
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## games that play themselves, on a PostgreSQL of its own, streamed on port 3000
	@bin=$$(scripts/postgresql '$(STATE)'); \
	PG_BIN="$$bin" exec cargo run --quiet --bin datastream -- demo --data-dir '$(STATE)/demo' $(ARGS)

.PHONY: test
test: prepare fmt-check lint test-installed test-18 test-autobahn test-soak test-client test-browsers test-aioquic ## all checks and tests, on both PostgreSQL versions

.PHONY: prepare
prepare:
	@scripts/prepare-tests '$(STATE)'

.PHONY: fmt
fmt: ## format the sources
	cargo fmt

.PHONY: fmt-check
fmt-check:
	cargo fmt --check

.PHONY: lint
lint: ## clippy, warnings are errors
	cargo clippy --workspace --all-targets --quiet -- -D warnings

# The distribution's server: PostgreSQL 15 on Debian 12. Where there is none, the fetched one.
.PHONY: test-installed
test-installed: export SQLX := $(STATE)/cargo/bin/sqlx
test-installed:
	PG_BIN="$$(scripts/postgresql '$(STATE)')" cargo test --workspace

# Only what talks to a server: the library's and the house rules do not change with it.
.PHONY: test-18
test-18: export SQLX := $(STATE)/cargo/bin/sqlx
test-18:
	PG_BIN='$(STATE)/postgresql-18/bin' cargo test --test main -- --skip tidy::

# Fewer rounds than a release build could take: the judge looks at what comes, not at how fast.
.PHONY: test-soak
test-soak: ## short soaks: each capture mode, two nodes, lost commits; docs/guarantees.md says what they prove
	cargo build --quiet -p datastream-soak
	for how in '--capture auto' '--capture notify' '--capture poll' '--nodes 2' '--nodes 2 --capture poll' --lossy; do \
	  target/debug/soak --seconds 15 --seed 1 --write-every 60ms $$how \
	    --pg-bin "$$(scripts/postgresql '$(STATE)')"; \
	done

# The program that the tests below run. As `cargo test` builds it, so that it is not built twice.
.PHONY: binary
binary:
	cargo test --quiet --no-run --test main

# Clients that share no code with the server. Each of the three installs what it needs.
test-client test-browsers test-aioquic: export DATASTREAM := $(CURDIR)/target/debug/datastream

.PHONY: test-client
test-client: binary ## the JavaScript client in Node, and the examples of docs/clients.md
	@node=$$(scripts/node '$(STATE)'); PATH="$$node:$$PATH" npm --prefix clients/js test --silent

.PHONY: test-browsers
test-browsers: binary ## the client, the live page and WebTransport in Chromium and Firefox
	@tests/browser/client.sh
	@tests/browser/run.sh

.PHONY: test-aioquic
test-aioquic: binary ## WebTransport against a client in Python, well behaved and not
	@tests/aioquic/run.sh

# Python and pip are there: they fetched PostgreSQL 18.
.PHONY: test-autobahn
test-autobahn: ## the Autobahn cases against the WebSocket frame reader (6 s)
	tests/autobahn/run '$(STATE)'

.PHONY: fuzz
fuzz: ## both fuzz targets, a minute each (needs cargo-fuzz)
	RUSTC_BOOTSTRAP=1 cargo fuzz run payload -- -max_total_time=60
	RUSTC_BOOTSTRAP=1 cargo fuzz run frames -- -max_total_time=60

.PHONY: bench
bench: ## the benchmarks (docs/benchmarks.md says how to read them)
	PG_BIN="$$(scripts/postgresql '$(STATE)')" cargo bench

.PHONY: bench-writer
bench-writer: ## what it costs the game: pgbench with and without us, in turn
	cargo build --bin datastream
	PG_BIN="$$(scripts/postgresql '$(STATE)')" benches/writer/run target/debug/datastream
