//! Data Stream: finished game rounds out of PostgreSQL, over WebSocket, SSE and WebTransport, each
//! once.
//!
//! ```text
//!  game's transaction ── NOTIFY, outbox ──▶ source ── Round ──▶ stream ── Frame ──▶ transport ──▶ clients
//!                            ▲                                    ▲
//!                            └──── postgres: older rounds ────────┘      http: who may subscribe
//! ```
//!
//! Beyond one machine, a capture node appends the rounds to a log on NATS, and edges read it
//! (`stream::bus`): there `source` ends at the log, and `stream` begins at it.
//!
//! A round changes its type on the way: `Round` (as read), `Captured` (with its transaction), `Frame`
//! (encoded, with its position in the hub). `StoredRound` is one read for a replay.
//!
//! # Layout
//!
//! The life of a round is one walk: `source` reads it, `stream` gives it its place and encodes it,
//! `transport` sends it. From the bottom up; imports go down only, and a test checks it:
//!
//! * `ops`: metrics, logs, shutdown, backoff, limits.
//! * `stream`: rounds, topics, frames; the hub with its ring buffers; replays; subscriptions; the bus.
//! * `postgres`: connection target, queries, migrations, attach, checks, maintenance.
//! * `config`: options as typed values.
//! * `source`: PostgreSQL to rounds: listener, catch-up, poll, cursor; read-only mode.
//! * `access`: who may listen: keys, tokens, permissions, and how long each lasts.
//! * `transport`: writes rounds to sockets: shards for WebSocket and SSE, sessions for WebTransport.
//! * `http`: routes, refusals, the accept loop, the live page.
//! * `app`: binds, wires, runs and stops a server.
//! * `cli`: the commands.

pub(crate) mod access;
pub mod app;
pub mod cli;
pub mod config;
mod http;
pub(crate) mod ops;
pub(crate) mod postgres;
pub(crate) mod source;
pub(crate) mod stream;
pub(crate) mod transport;

/// For this project's benchmarks, fuzz targets and load program; nothing here is stable.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        access::fuzz as tokens,
        ops::{build_info::LINE as BUILD, shutdown::Shutdown, telemetry::metrics::Metrics},
        postgres::target::PgTarget,
        source::{Capture, CaptureSettings, decode_payload},
        stream::{
            frame,
            games::Games,
            hub, round,
            skipped_rounds::SkippedRounds,
            topic,
            transaction::{Attachment, Xid},
        },
        transport::{close, frame_reader, frame_writer, tls::blocking as tls},
    };
}
