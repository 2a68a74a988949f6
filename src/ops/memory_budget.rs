//! The memory budget: how many bytes the process may keep for all that clients, the database and
//! its content can make grow.
//!
//! * **B1** Every such buffer takes its bytes from the budget before it is filled, and gives them
//!   back when it is dropped.
//! * **B2** Each use has a share that it cannot exceed, and a reserve that no other use can take. So
//!   one use cannot starve another, and live streams go on.
//! * **B3** Once a share is half used, one client address gets at most a quarter of it. Clients
//!   without a known address, as behind a proxy, have no such limit.
//! * **B4** Rounds are never refused. Their bytes are counted all the same. The history and slow
//!   readers give up memory instead ([`MemoryBudget::is_exhausted`]).
//! * **B5** Connections without a stream are counted among the connections, and never refused by the
//!   budget: the connection limiter bounds their number. Only half of the share counts against new
//!   work, however many there are: the other half is left for streams.

mod available;

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use prometheus_client::metrics::gauge::Gauge;

pub(crate) use self::available::default_limit;
use super::{
    client_network::network,
    telemetry::metrics::{ByMemoryUse, MemoryUse, Metrics},
};

/// How many uses there are.
const USES: usize = 5;
/// Shares and reserves are multiples of a sixteenth of the limit.
const PARTS: usize = 16;

impl MemoryUse {
    /// Every use.
    pub const ALL: [Self; USES] =
        [Self::connections, Self::history, Self::queues, Self::replays, Self::lists];

    /// Its reserve and its share, in sixteenths of the limit. The reserves add up to a half.
    const fn parts(self) -> (usize, usize) {
        match self {
            Self::connections => (1, 4),
            Self::history => (2, 8),
            Self::queues | Self::replays => (2, 4),
            Self::lists => (1, 2),
        }
    }
}

/// The bytes of a connection besides its queues (measured; see `docs/operations.md`, "Sizing").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionCost {
    /// A WebSocket or an event stream of a shard.
    Stream,
    /// The same with TLS, whose keys take 3.2 KB.
    EncryptedStream,
    /// A connection that speaks HTTP.
    Http,
    /// A WebTransport session.
    WebTransport,
}

impl ConnectionCost {
    fn bytes(self) -> usize {
        match self {
            Self::Stream => 1024,
            Self::EncryptedStream => 4608,
            Self::Http => 32 * 1024,
            Self::WebTransport => 65 * 1024,
        }
    }
}

/// The share of a use is used up, or this client has its part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has no memory left for this: retry later")]
pub(crate) struct BudgetExhausted;

/// Hands out the bytes of one limit. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    limit: usize,
    /// `Accounts::used` in the metrics, which are readable without the lock.
    gauges: [Gauge; USES],
    accounts: Mutex<Accounts>,
    metrics: Metrics,
}

/// Who has how much.
#[derive(Debug, Default)]
struct Accounts {
    used: [usize; USES],
    /// Those of the connections that hold no stream.
    pending: usize,
    /// By use and client address.
    clients: HashMap<(MemoryUse, IpAddr), usize>,
}

impl MemoryBudget {
    /// A budget without a limit.
    pub(crate) fn unlimited() -> Self {
        Self::new(usize::MAX / 2, &Metrics::default())
    }

    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize, metrics: &Metrics) -> Self {
        metrics.memory_limit_bytes.set(limit.try_into().unwrap_or(i64::MAX));
        let gauges = MemoryUse::ALL.map(|kind| {
            let label = ByMemoryUse { kind };
            metrics.memory_used_bytes.get_or_create_owned(&label)
        });
        let (accounts, metrics) = (Mutex::default(), metrics.clone());
        Self(Arc::new(BudgetState { limit, gauges, accounts, metrics }))
    }

    /// Takes bytes for a client, or refuses (B2, B3).
    pub(crate) fn take(
        &self,
        usage: MemoryUse,
        client: Option<IpAddr>,
        bytes: usize,
    ) -> Result<Charge, BudgetExhausted> {
        self.try_take(usage, client, bytes).ok_or_else(|| {
            let label = ByMemoryUse { kind: usage };
            self.0.metrics.memory_refused_total.get_or_create(&label).inc();
            BudgetExhausted
        })
    }

    /// The same for a request that waits for bytes: it is not refused yet, and not counted.
    pub(crate) fn try_take(
        &self,
        usage: MemoryUse,
        client: Option<IpAddr>,
        bytes: usize,
    ) -> Option<Charge> {
        let client = client.map(network);
        let mut accounts = self.0.accounts.lock();
        if !self.0.admits(&accounts, usage, client, bytes) {
            return None;
        }
        if let Some(client) = client {
            *accounts.clients.entry((usage, client)).or_default() += bytes;
        }
        self.0.add(&mut accounts, usage, bytes);
        drop(accounts);
        Some(Charge { budget: self.clone(), usage, client, bytes })
    }

    /// The budget for one client.
    pub(crate) fn of_client(&self, client: Option<IpAddr>) -> ClientMemory {
        ClientMemory { budget: self.clone(), client }
    }

    /// Takes the bytes of a connection.
    pub(crate) fn take_connection(
        &self,
        cost: ConnectionCost,
        client: Option<IpAddr>,
    ) -> Result<Charge, BudgetExhausted> {
        self.take(MemoryUse::connections, client, cost.bytes())
    }

    /// Counts the bytes of a connection that speaks HTTP: the connection limiter bounds their number
    /// (B5).
    pub(crate) fn count_http(&self) -> PendingBytes {
        self.count_pending(ConnectionCost::Http.bytes())
    }

    /// Counts the keys of a connection with TLS that has no stream yet (B5).
    pub(crate) fn count_keys(&self) -> PendingBytes {
        self.count_pending(ConnectionCost::EncryptedStream.bytes() - ConnectionCost::Stream.bytes())
    }

    fn count_pending(&self, bytes: usize) -> PendingBytes {
        let mut accounts = self.0.accounts.lock();
        accounts.pending += bytes;
        self.0.add(&mut accounts, MemoryUse::connections, bytes);
        drop(accounts);
        PendingBytes { budget: self.clone(), bytes }
    }

    /// Counts bytes that cannot be refused (B4).
    pub(crate) fn count(&self, usage: MemoryUse, bytes: usize) -> CountedBytes {
        self.0.add(&mut self.0.accounts.lock(), usage, bytes);
        let usage = AtomicU8::new(usage as u8);
        CountedBytes { budget: self.clone(), usage, bytes }
    }

    /// The most that a use may have.
    pub(crate) fn share(&self, usage: MemoryUse) -> usize {
        self.0.share(usage)
    }

    /// What a use has.
    pub(crate) fn used(&self, usage: MemoryUse) -> usize {
        usize::try_from(self.0.gauges[usage as usize].get()).unwrap_or(0)
    }

    /// Whether a use has more than its share (B4).
    pub(crate) fn is_exhausted(&self, usage: MemoryUse) -> bool {
        self.used(usage) > self.share(usage)
    }

    /// Whether a use has to give bytes back: it has more than its share, or the limit is reached and
    /// it has more than its reserve (B4).
    pub(crate) fn must_shrink(&self, usage: MemoryUse) -> bool {
        let total = || MemoryUse::ALL.iter().map(|usage| self.used(*usage)).sum::<usize>();
        self.is_exhausted(usage)
            || (self.used(usage) > self.0.reserve(usage) && total() > self.0.limit)
    }

    /// Whether a use has more than half of its share.
    pub(crate) fn is_half_used(&self, usage: MemoryUse) -> bool {
        self.used(usage) > self.share(usage) / 2
    }
}

/// The budget for one client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ClientMemory {
    budget: MemoryBudget,
    client: Option<IpAddr>,
}

impl ClientMemory {
    /// Takes bytes, or refuses (B2, B3).
    pub(crate) fn take(&self, usage: MemoryUse, bytes: usize) -> Result<Charge, BudgetExhausted> {
        self.budget.take(usage, self.client, bytes)
    }
}

impl BudgetState {
    fn share(&self, usage: MemoryUse) -> usize {
        self.limit / PARTS * usage.parts().1
    }

    fn reserve(&self, usage: MemoryUse) -> usize {
        self.limit / PARTS * usage.parts().0
    }

    fn admits(
        &self,
        accounts: &Accounts,
        usage: MemoryUse,
        client: Option<IpAddr>,
        bytes: usize,
    ) -> bool {
        let share = self.share(usage);
        let wanted = self.used(accounts, usage).saturating_add(bytes);
        let of_client = client.and_then(|client| accounts.clients.get(&(usage, client)));
        let of_client = of_client.copied().unwrap_or(0).saturating_add(bytes);
        let is_fair = client.is_none() || wanted <= share / 2 || of_client <= share / 4;
        wanted <= share && is_fair && self.total_with(accounts, usage, wanted) <= self.limit
    }

    /// What a use has, as far as it counts against new work (B5).
    fn used(&self, accounts: &Accounts, usage: MemoryUse) -> usize {
        let used = accounts.used[usage as usize];
        match usage {
            MemoryUse::connections => used - accounts.pending.saturating_sub(self.share(usage) / 2),
            _ => used,
        }
    }

    /// All bytes in use or reserved, if this use had `wanted`.
    fn total_with(&self, accounts: &Accounts, usage: MemoryUse, wanted: usize) -> usize {
        let of = |other: MemoryUse| match other == usage {
            true => wanted,
            false => self.used(accounts, other),
        };
        MemoryUse::ALL.iter().map(|&other| of(other).max(self.reserve(other))).sum()
    }

    fn add(&self, accounts: &mut Accounts, usage: MemoryUse, bytes: usize) {
        accounts.used[usage as usize] += bytes;
        self.publish(accounts, usage);
    }

    fn give_back(&self, usage: MemoryUse, client: Option<IpAddr>, bytes: usize) {
        let mut accounts = self.accounts.lock();
        if let Some(client) = client
            && let Some(used) = accounts.clients.get_mut(&(usage, client))
        {
            *used -= bytes;
            if *used == 0 {
                accounts.clients.remove(&(usage, client));
            }
        }
        accounts.used[usage as usize] -= bytes;
        self.publish(&accounts, usage);
    }

    /// Shows what a use has to those that do not take the lock.
    fn publish(&self, accounts: &Accounts, usage: MemoryUse) {
        let used = accounts.used[usage as usize];
        self.gauges[usage as usize].set(used.try_into().unwrap_or(i64::MAX));
    }
}

/// Bytes taken from the budget, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: MemoryBudget,
    usage: MemoryUse,
    client: Option<IpAddr>,
    bytes: usize,
}

impl Charge {
    /// Gives back all but `bytes`, once it is known how many are needed.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let rest = self.bytes.saturating_sub(bytes);
        self.bytes -= rest;
        self.budget.0.give_back(self.usage, self.client, rest);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.give_back(self.usage, self.client, self.bytes);
    }
}

/// Bytes of a connection without a stream (B5), given back when this is dropped.
#[derive(Debug)]
pub(crate) struct PendingBytes {
    budget: MemoryBudget,
    bytes: usize,
}

impl Drop for PendingBytes {
    fn drop(&mut self) {
        let state = &self.budget.0;
        let mut accounts = state.accounts.lock();
        accounts.pending -= self.bytes;
        accounts.used[MemoryUse::connections as usize] -= self.bytes;
        state.publish(&accounts, MemoryUse::connections);
    }
}

/// Bytes of rounds, which are never refused (B4), given back when this is dropped.
#[derive(Debug)]
pub(crate) struct CountedBytes {
    budget: MemoryBudget,
    usage: AtomicU8,
    bytes: usize,
}

impl CountedBytes {
    fn usage(&self) -> MemoryUse {
        MemoryUse::ALL[usize::from(self.usage.load(Ordering::Relaxed)) % USES]
    }

    /// Counts the bytes for another use from now on.
    pub(crate) fn move_to(&self, usage: MemoryUse) {
        let mut accounts = self.budget.0.accounts.lock();
        let former = self.usage();
        self.usage.store(usage as u8, Ordering::Relaxed);
        accounts.used[former as usize] -= self.bytes;
        self.budget.0.publish(&accounts, former);
        self.budget.0.add(&mut accounts, usage, self.bytes);
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.budget.0.give_back(self.usage(), None, self.bytes);
    }
}

#[cfg(test)]
mod tests;
