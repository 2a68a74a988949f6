//! What every part of the program stands on: metrics and logs, shutdown, backoff, limits.

pub mod backoff;
pub mod connection_limiter;
pub(crate) mod descriptors;
pub(crate) mod lock;
pub mod phase;
pub mod shutdown;
pub mod telemetry;
