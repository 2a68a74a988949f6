# syntax=docker/dockerfile:1
# Needs BuildKit (the default since Docker 23), or podman, for the cache mounts.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
# musl: the program links nothing of the system, so its image needs no system.
# Versions are Debian's to choose: a pinned one disappears from the mirror at the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ca-certificates make musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && target="$(uname -m)-unknown-linux-musl" \
    && { [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"; }
COPY . .
# The build context has no .git: pass --build-arg REVISION="$(git rev-parse --short=12 HEAD)".
ARG REVISION=unknown
# The caches keep dependencies compiled between builds, so the result is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(uname -m)-unknown-linux-musl" \
    && DATASTREAM_BUILD_REVISION="$REVISION" \
       cargo build --release --locked --bin datastream --target "$target" \
    && cp "target/$target/release/datastream" /usr/local/bin/datastream

# No shell, no libraries, no package manager: the program, and the authorities for TLS to PostgreSQL.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/datastream /datastream
# A number, so that Kubernetes' runAsNonRoot can check it. The program writes no files.
USER 10001:10001
EXPOSE 3000/tcp 4433/udp
# Ready: connected and caught up. Docker and compose only show it. An orchestrator that restarts
# unhealthy containers must ask /healthz instead: an outage of the database is no reason to restart.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 CMD ["/datastream", "health"]
# Migrations are inside the binary: `docker run … migrate` needs no files.
ENTRYPOINT ["/datastream"]
CMD ["serve"]
