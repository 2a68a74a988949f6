//! PostgreSQL to rounds: from the game's commit to the hub, each round once, whatever fails.
//!
//! ```text
//!             ┌────────────── any error, or the end of the connection ──────────────┐
//!             ▼                                                                     │
//!  Connecting ──▶ LISTEN acknowledged ──▶ catch-up ──▶ live: wake-up or timer ──▶ poll
//!  (10 … 100 ms)                          (from the     (5 ms for 1 s after a round,
//!                                          durable       then 250 ms)
//!                                          snapshot)
//! ```
//!
//! A notification only says "look". Which rounds are published, and their content, comes from
//! `datastream.outbox` and the game's table, in one statement. One type for each duty, from the top:
//!
//! * [`Capture`]: connects again and again; keeps the [state](connection::State) between connections.
//! * `connection::Connection`: catch-up and the live loop of one connection.
//! * `listener::Listener`: the connection and its wake-ups. `exact_claim::ExactClaim`: other
//!   servers. `exact_server::ServerName`: the row that names the one that answers resumes exactly.
//! * `outbox_reader::OutboxReader`: polls, pages, rounds by id. `catch_up_queries`: the rest.
//! * `publisher::RoundPublisher`: found rounds to the hub, skipped rounds counted.
//! * [`BusCapture`]: leads the log on the bus, or stands by.
//! * `cursor::Cursor`: how far the outbox has been published. Pure.

mod audit;
mod bus_capture;
mod capture;
mod catch_up_queries;
mod connection;
mod connection_limits;
mod content_reader;
mod cursor;
mod error;
mod exact_claim;
mod exact_server;
mod games;
mod initial_load;
mod listener;
mod outbox_reader;
mod pace;
mod payload;
mod poll;
mod presence;
mod probe;
mod publisher;
pub(crate) mod read_only;
mod reconnect;
mod rows;
mod running;
pub(crate) mod self_test;
mod session;
mod suppression;
mod wake_ups;

pub(crate) use self::bus_capture::{BusCapture, BusCaptureSettings};
pub use self::capture::{Capture, CaptureSettings};

/// Decodes a payload that any role may have sent: for the fuzz target.
pub fn decode_payload(text: &str) {
    let _ = payload::decode(text);
}
