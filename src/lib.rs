//! Data Stream: finished game rounds out of PostgreSQL, over WebSocket and SSE, each once.
//!
//! ```text
//!  game's transaction ── NOTIFY, outbox ──▶ capture ── Round ──▶ hub ── Frame ──▶ transport ──▶ clients
//!                            ▲                                   ▲                  ▲
//!                            └── history ◀── replay ◀── feed ────┴──── http ────────┘
//! ```
//!
//! The life of a round is one walk: [`capture`] decodes it and decides whether it is new, [`hub`]
//! gives it its place in the stream and encodes it, [`transport`] sends it. From the bottom up:
//!
//! * [`round`], [`topic`], [`frame`]: what is moved, what can be asked for, what goes on the wire.
//! * [`games`], [`hub`]: who is who; order, memory, subscriptions. No SQL, no network.
//! * [`history`], [`replay`], [`feed`]: what memory does not reach; the one way to subscribe.
//! * [`capture`]: the LISTEN connection as a state machine, exactly once. [`maintenance`] beside it.
//! * [`transport`], [`http`]: who may have what, and how it is written to them.
//! * [`app`], [`cli`], [`demo`], [`tail`], [`migrate`], [`attach`], [`doctor`], [`config`]: the program.
//! * [`pg_target`], [`database`], [`embedded_postgres`], [`shutdown`], [`backoff`], [`telemetry`]:
//!   what they all stand on.

pub mod app;
pub mod cli;
pub mod config;
pub mod embedded_postgres;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod ops;
pub mod postgres;
pub mod source;
pub mod stream;
pub mod transport;
