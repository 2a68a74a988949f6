# syntax=docker/dockerfile:1
# Needs BuildKit (the default since Docker 23) for the cache mounts.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
# The caches keep dependencies compiled between builds, so the result is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin datastream \
    && cp target/release/datastream /usr/local/bin/datastream

# The same Debian as the build: the program links its glibc.
FROM debian:trixie-slim
# ca-certificates: TLS to PostgreSQL. curl: the health check below, as there is no subcommand for it.
# Versions are Debian's to choose: a pinned one disappears from the mirror at the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ca-certificates curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/datastream /usr/local/bin/datastream
# A number, so that Kubernetes' runAsNonRoot can check it. The program writes no files.
USER 10001:10001
EXPOSE 3000/tcp
# Liveness, not readiness: an outage of the database must not get this container restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:3000/healthz"]
# Migrations are inside the binary: `docker run … migrate` needs no files.
ENTRYPOINT ["datastream"]
CMD ["serve"]
