//! From a finished round to the bytes that every subscriber gets: order, ring buffers, replays.

pub mod feed;
pub mod frame;
pub mod games;
pub mod hub;
pub mod last_failure;
pub mod replay;
pub mod round;
pub mod round_store;
pub mod topic;
pub mod transaction;
