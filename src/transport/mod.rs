//! The streams of clients, from their opening to their close, on each transport.
//!
//! `http` decides who may subscribe to what; what it hands over is an [`Arrival`], a socket with
//! the head of its response and a prepared subscription, and from then on only this module writes
//! to the client. WebSocket and event streams share one write path, the [`shard`].

pub mod close;
pub mod frame_reader;
pub mod link;
pub mod places;
mod shard;
mod shards;

pub use self::{
    shard::{Arrival, Held, Protocol},
    shards::{ShardSettings, Shards},
};
