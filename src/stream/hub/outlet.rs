//! The way out for transports that keep subscribers of their own.

use std::fmt::Debug;

use super::{Batch, Opening, Placed, Position};

/// Takes every published round, and sorts out itself who gets it.
///
/// Called under the hub's lock, as is the `join` of [`super::Hub::open`]: what both put into one
/// queue is in the order of the stream, and nothing falls in between. So it must not wait, nor
/// call the hub.
pub trait Outlet: Debug + Send + Sync {
    /// Takes rounds that were published together.
    fn publish(&self, batch: &Batch);
}

/// What an opened stream begins with, and where that ends.
#[derive(Debug)]
pub struct Joint {
    /// What the stream starts with.
    pub opening: Opening,
    /// Later rounds have later positions than this.
    pub position: Position,
}

/// Rounds that a slow subscriber has missed.
#[derive(Debug)]
pub struct Missed {
    /// In order.
    pub rounds: Vec<Placed>,
    /// The position up to which these are all; `None` when there are more.
    pub whole: Option<Position>,
}
