//! Counts the bytes of a round as history as long as a ring buffer, or the latest round of a game,
//! holds it.

use std::sync::Arc;

use crate::ops::{memory_budget::CountedBytes, telemetry::metrics::MemoryUse};

/// A round that the hub holds. Once the hub drops it, what still refers to its bytes is a queue.
#[derive(Debug)]
pub(super) struct HistoryHold(Arc<CountedBytes>);

impl HistoryHold {
    pub(super) fn new(counted: Arc<CountedBytes>) -> Self {
        counted.move_to(MemoryUse::history);
        Self(counted)
    }
}

impl Drop for HistoryHold {
    fn drop(&mut self) {
        self.0.move_to(MemoryUse::queues);
    }
}
