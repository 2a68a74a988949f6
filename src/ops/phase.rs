//! How far the source of rounds has come: the capture publishes it, readiness and maintenance read it.

use std::time::Instant;

/// Where the capture stands. Published on a `watch` channel: readiness reads it.
#[derive(Clone, Debug)]
pub enum Phase {
    /// No connection; `problem` says why the last attempt failed.
    Connecting {
        /// The last error, for people.
        problem: Option<String>,
    },
    /// Connected, LISTEN acknowledged, reading what was missed.
    CatchingUp,
    /// Every committed round known so far is on the stream.
    Live {
        /// Since when.
        since: Instant,
    },
}
