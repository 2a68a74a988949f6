//! Reads the stored rounds of one replay, page by page, as its client takes them.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{ReplayError, Replays};
use crate::{
    ops::{
        memory_budget::{BudgetExhausted, Charge},
        telemetry::metrics::MemoryUse,
    },
    stream::{
        frame::{Frame, ROUND_OVERHEAD},
        stored_rounds::StoredPart,
    },
};

/// The bytes of JSON in a page: half of what a socket's buffer takes.
const PAGE_BYTES: usize = 64 * 1024;
/// A frame has the JSON twice.
const ENCODINGS: usize = 2;
/// How long a replay waits for memory that other replays hold.
const MEMORY_WITHIN: Duration = Duration::from_secs(30);
/// The time between two attempts to get memory.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Encoded rounds of a replay, charged until this is dropped.
#[derive(Debug)]
pub(crate) struct ReplayPage {
    /// In order.
    pub frames: Vec<Frame>,
    /// Their bytes.
    pub charge: Charge,
}

/// The stored rounds of one replay. At most one page of them is in memory.
#[derive(Debug)]
pub(crate) struct StoredReader {
    replays: Replays,
    part: StoredPart,
    /// The row at which the next page begins.
    next: usize,
    client: Option<IpAddr>,
    /// The bytes of the row numbers.
    _charge: Charge,
}

impl StoredReader {
    pub(crate) fn new(
        replays: Replays,
        part: StoredPart,
        client: Option<IpAddr>,
        charge: Charge,
    ) -> Self {
        Self { replays, part, next: 0, client, _charge: charge }
    }

    /// The next page; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<ReplayPage>, ReplayError> {
        let names = self.part.page(self.next, PAGE_BYTES);
        if names.is_empty() {
            return Ok(None);
        }
        let charge = self.charge(names.len()).await?;
        let contents = self.replays.contents().read(&names, self.client).await?;
        self.next += names.len();
        // A round that was deleted meanwhile is missing.
        let frames = names.iter().filter_map(|name| contents.get(name).cloned().flatten());
        let frames = frames.collect();
        Ok(Some(ReplayPage { frames, charge }))
    }

    /// Whether more than half of the memory for replays is used: clients must read faster then.
    pub(crate) fn is_memory_scarce(&self) -> bool {
        self.replays.budget().is_half_used(MemoryUse::replays)
    }

    /// Waits until there is memory for so many rounds.
    async fn charge(&self, rounds: usize) -> Result<Charge, BudgetExhausted> {
        let rounds = self.part.iter().skip(self.next).take(rounds);
        let bytes = |json: usize| json * ENCODINGS + ROUND_OVERHEAD;
        let bytes = rounds.map(|round| bytes(round.json_bytes())).sum();
        let (budget, begun) = (self.replays.budget(), Instant::now());
        loop {
            match budget.take(MemoryUse::replays, self.client, bytes) {
                Err(error) if begun.elapsed() >= MEMORY_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_EVERY).await,
                Ok(charge) => return Ok(charge),
            }
        }
    }
}
