//! What a capture node says in its beat, and what others know of it.

use std::time::Instant;

use super::beat::Beat;

/// The state of a capture node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderState {
    /// The sequence of its claim; 0 while it stands by, and sends no beat.
    pub(crate) claim: u64,
    /// The last sequence that it wrote.
    pub(crate) end: u64,
    /// Whether all that is committed is in the log, as far as it knows.
    pub(crate) is_live: bool,
    /// Whether another node may take over at once.
    pub(crate) is_released: bool,
    /// Whether no server without a bus streams the same database.
    pub(crate) is_alone: bool,
    /// The name of the space of its transaction ids.
    pub(crate) space: u64,
    /// The sequence behind which an edge has seen messages that the log lost.
    pub(crate) reported_lost: Option<u64>,
}

/// The leader as this server knows it.
#[derive(Clone, Debug)]
pub(crate) struct LeaderView {
    /// The last beat, and when it came.
    pub(crate) beat: Beat,
    pub(crate) received: Instant,
}
