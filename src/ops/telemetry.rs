//! Logs and metrics.

mod bus_metrics;
pub(crate) mod exposition;
pub(crate) mod logs;
mod metric_set;
pub(crate) mod metrics;
mod process;
