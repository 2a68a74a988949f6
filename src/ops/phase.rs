//! The phase of the capture. The capture publishes it; readiness and maintenance read it.

use std::time::Instant;

/// The phase of the capture, published on a `watch` channel.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Not connected.
    Connecting {
        /// The error of the last attempt, as text for operators.
        problem: Option<String>,
    },
    /// Connected and listening; reads the rounds that finished before.
    CatchingUp,
    /// Another capture node leads.
    StandingBy,
    /// Every committed round found so far is published.
    Live {
        /// The start of this phase.
        since: Instant,
    },
}
