//! From the game's commit to a round on the hub. (Interface; being filled in.)

pub(crate) mod connect;

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
