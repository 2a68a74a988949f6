//! The interface for transports that keep subscribers of their own.

use std::fmt::Debug;

use super::{Batch, Later, Opening, Placed, Position};

/// Takes every published round, and selects the subscribers that get it.
///
/// The command queue of a shard is one. The hub calls it under its lock, as it calls the `join` of
/// [`super::Hub::subscribe_by_outlet`]. So the queue that both write has the order of the stream,
/// without loss. It must not block, nor call the hub.
pub trait Outlet: Debug + Send + Sync {
    /// Takes rounds that were published together.
    fn publish(&self, batch: &Batch);

    /// Ends all streams: the server has lost its place in the stream.
    fn end_streams(&self) {}

    /// Whether it has taken so many rounds that a publisher of many should wait.
    fn is_behind(&self) -> bool {
        false
    }
}

/// The opening of a stream, and the position at which it ends.
#[derive(Debug)]
pub struct Joint {
    /// The rounds that the stream starts with.
    pub opening: Opening,
    /// The rounds of the ring buffers that follow them, if the opening does not hold all.
    pub rest: Option<Later>,
    /// Later rounds have later positions than this.
    pub position: Position,
}

/// Rounds that a slow subscriber has missed.
#[derive(Debug)]
pub struct Missed {
    /// In order.
    pub rounds: Vec<Placed>,
    /// The position up to which no more are missed; `None` if there are more.
    pub whole: Option<Position>,
}
