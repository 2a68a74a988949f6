//! From a finished round to the bytes that every subscriber gets: order, ring buffers, replays.

pub(crate) mod bus;
pub(crate) mod feed;
pub mod frame;
pub(crate) mod games;
pub mod hub;
pub(crate) mod id;
pub(crate) mod json_writer;
pub(crate) mod last_failure;
pub(crate) mod list;
pub(crate) mod replay;
pub mod round;
pub(crate) mod round_store;
pub(crate) mod sink;
pub(crate) mod skipped_rounds;
pub(crate) mod snapshot;
pub(crate) mod start_point;
pub(crate) mod stored_round;
pub mod topic;
pub(crate) mod transaction;
