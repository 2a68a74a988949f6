//! Logs and metrics.

pub(crate) mod exposition;
pub(crate) mod logs;
pub(crate) mod metrics;
mod process;
