//! What every part of the program stands on: metrics and logs, shutdown, backoff, limits.

pub(crate) mod backoff;
pub(crate) mod build_info;
pub(crate) mod client_network;
pub(crate) mod connection_limiter;
pub(crate) mod descriptors;
pub(crate) mod halves;
pub(crate) mod memory_budget;
pub(crate) mod own_thread;
pub(crate) mod partial_verifier;
pub(crate) mod phase;
pub(crate) mod process_name;
pub(crate) mod recent_set;
pub(crate) mod shutdown;
pub(crate) mod telemetry;
pub(crate) mod turns;
