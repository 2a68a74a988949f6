//! The connection limiter: how many connections at once, per address, and streams per second.
//!
//! Streams have a [`Permit`] each. All other connections are [`pending`]: they count as well, and
//! one of them is closed where a limit is exceeded, never a stream.

mod pending;

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

pub(crate) use self::pending::Kind;
use self::pending::{Among, Pending, State};
use super::{
    client_network::network,
    descriptors::SPARE_PENDING,
    telemetry::metrics::{ByPending, Metrics, PendingState},
};

/// The most connections without a stream, of each kind. One that speaks HTTP holds about 32 KB, and
/// one in a QUIC handshake 50 KB.
const PENDING_MAX: usize = 1024;
/// How many connections an address may have beyond its limit, to be answered with 503.
const SPARE_PER_ADDRESS: usize = 16;

/// The configured limits; `None` turns a limit off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once.
    pub streams: usize,
    /// Connections at once from one client address.
    pub per_address: Option<NonZeroU32>,
    /// New streams per second, as a token bucket of one second.
    pub per_second: Option<NonZeroU32>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitReached {
    /// [`Limits::streams`].
    #[error("the server is full")]
    Streams,
    /// [`Limits::per_address`].
    #[error("too many streams are open from this address")]
    Address,
    /// [`Limits::per_second`].
    #[error("too many streams were opened within a second")]
    Rate,
}

/// Issues permits for streams within the limits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimiter(Arc<LimiterState>);

#[derive(Debug)]
struct LimiterState {
    limits: Limits,
    in_use: Mutex<InUse>,
    metrics: Metrics,
}

#[derive(Debug)]
struct InUse {
    streams: usize,
    /// The streams of each address, if the limit per address is on.
    addresses: HashMap<IpAddr, usize>,
    pending: Pending,
    /// Tokens of the rate limit at `counted_at`.
    tokens: f64,
    counted_at: Instant,
}

/// A permit for one stream, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<LimiterState>,
    /// Set if the limit per address is on and the address is known.
    address: Option<IpAddr>,
}

/// A connection without a stream, registered until it is dropped.
#[derive(Debug)]
pub(crate) struct PendingConnection {
    shared: Arc<LimiterState>,
    id: usize,
    close: CancellationToken,
    is_blocked: Arc<AtomicBool>,
}

impl ConnectionLimiter {
    /// A limiter with these limits.
    pub(crate) fn new(limits: Limits, metrics: Metrics) -> Self {
        let in_use = InUse {
            streams: 0,
            addresses: HashMap::new(),
            pending: Pending::default(),
            tokens: limits.per_second.map_or(0.0, |most| f64::from(most.get())),
            counted_at: Instant::now(),
        };
        Self(Arc::new(LimiterState { limits, in_use: Mutex::new(in_use), metrics }))
    }

    /// Acquires a permit for a client of this address; `None` if its address is unknown.
    pub(crate) fn acquire(&self, address: Option<IpAddr>) -> Result<Permit, LimitReached> {
        self.acquire_at(address, Instant::now())
    }

    fn acquire_at(&self, address: Option<IpAddr>, now: Instant) -> Result<Permit, LimitReached> {
        let mut in_use = self.0.in_use.lock();
        let address = self.room(&in_use, address)?;
        if let Some(most) = self.0.limits.per_second {
            in_use.take_token(most, now)?;
        }
        in_use.streams += 1;
        if let Some(network) = address {
            *in_use.addresses.entry(network).or_default() += 1;
        }
        Ok(Permit { shared: Arc::clone(&self.0), address })
    }

    /// Whether a client of this address would get a permit, apart from the rate.
    pub(crate) fn check(&self, address: Option<IpAddr>) -> Result<(), LimitReached> {
        self.room(&self.0.in_use.lock(), address).map(drop)
    }

    /// The network for which the stream of a client is counted, if there is room for one.
    fn room(
        &self,
        in_use: &InUse,
        address: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, LimitReached> {
        let Limits { streams, per_address, .. } = self.0.limits;
        if in_use.streams >= streams {
            return Err(LimitReached::Streams);
        }
        let Some((most, network)) = per_address.zip(address.map(network)) else {
            return Ok(None);
        };
        if in_use.streams_of(network) >= most.get() as usize {
            return Err(LimitReached::Address);
        }
        Ok(Some(network))
    }

    /// Registers a connection without a stream, and closes others if there are too many. `None` if
    /// none of them can be closed: all wait for a response, and read it.
    pub(crate) fn connect(&self, kind: Kind, address: Option<IpAddr>) -> Option<PendingConnection> {
        self.connect_at(kind, address, Instant::now())
    }

    fn connect_at(
        &self,
        kind: Kind,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Option<PendingConnection> {
        let mut in_use = self.0.in_use.lock();
        let has_room = in_use.pending.count(kind) < in_use.pending_max(kind, &self.0.limits);
        if !has_room && !self.0.close_oldest(&mut in_use, Among::Crowd(kind), true, now) {
            let label = ByPending { state: PendingState::request };
            self.0.metrics.pending_closed_total.get_or_create(&label).inc();
            return None;
        }
        let (id, close, is_blocked) = in_use.pending.insert(kind, address.map(network), now);
        self.0.close_excess(&mut in_use, now);
        Some(PendingConnection { shared: Arc::clone(&self.0), id, close, is_blocked })
    }

    /// How many connections of this kind have no stream.
    pub(crate) fn pending(&self, kind: Kind) -> usize {
        self.0.in_use.lock().pending.count(kind)
    }

    /// Closes connections without a stream that exceed the limits and have waited long enough. To
    /// be called every now and then.
    pub(crate) fn close_excess(&self) {
        self.0.close_excess(&mut self.0.in_use.lock(), Instant::now());
        self.0.update_metrics();
    }

    /// Closes the connection without a stream that has waited longest, to free its descriptor.
    pub(crate) fn close_oldest(&self) {
        self.0.close_oldest(
            &mut self.0.in_use.lock(),
            Among::Crowd(Kind::Http),
            true,
            Instant::now(),
        );
    }
}

impl LimiterState {
    fn close_excess(&self, in_use: &mut InUse, now: Instant) {
        while in_use.streams + in_use.pending.total() > self.limits.streams
            && self.close_oldest(in_use, Among::All, false, now)
        {}
        let Some(most) = self.limits.per_address else { return };
        let most = most.get() as usize;
        let excess: Vec<_> = in_use
            .pending
            .addresses()
            .map(|(address, count)| {
                (address, (in_use.streams_of(address) + count).saturating_sub(most))
            })
            .filter(|(_, excess)| *excess > 0)
            .collect();
        for (address, excess) in excess {
            for left in (1..=excess).rev() {
                let at_once = left > SPARE_PER_ADDRESS;
                if !self.close_oldest(in_use, Among::Address(address), at_once, now) {
                    break;
                }
            }
        }
    }

    fn close_oldest(&self, in_use: &mut InUse, among: Among, at_once: bool, now: Instant) -> bool {
        let closed = in_use.pending.close_oldest(among, at_once, now);
        if let Some(state) = closed {
            let label = ByPending { state: state.into() };
            self.metrics.pending_closed_total.get_or_create(&label).inc();
        }
        closed.is_some()
    }

    /// Updates the gauges. Not at each change, because counting looks at every connection.
    fn update_metrics(&self) {
        let in_use = self.in_use.lock();
        let counts = [
            (PendingState::no_request, in_use.pending.in_state(Kind::Http, State::NoRequest)),
            (PendingState::idle, in_use.pending.in_state(Kind::Http, State::Idle)),
            (PendingState::request, in_use.pending.in_state(Kind::Http, State::Request)),
            (PendingState::quic, in_use.pending.count(Kind::Quic)),
        ];
        drop(in_use);
        for (state, count) in counts {
            let gauge = self.metrics.pending_connections.get_or_create_owned(&ByPending { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl InUse {
    fn streams_of(&self, network: IpAddr) -> usize {
        self.addresses.get(&network).copied().unwrap_or_default()
    }

    /// The most connections of this kind without a stream. A full server still answers some.
    fn pending_max(&self, kind: Kind, limits: &Limits) -> usize {
        match kind {
            Kind::Http => {
                let left = limits.streams.saturating_sub(self.streams);
                left.saturating_add(SPARE_PENDING).min(PENDING_MAX)
            }
            Kind::Quic => PENDING_MAX,
        }
    }

    /// Takes a token, if there is one.
    fn take_token(&mut self, most: NonZeroU32, now: Instant) -> Result<(), LimitReached> {
        let most = f64::from(most.get());
        let earned = now.duration_since(self.counted_at).as_secs_f64() * most;
        self.tokens = (self.tokens + earned).min(most);
        self.counted_at = now;
        if self.tokens < 1.0 {
            return Err(LimitReached::Rate);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

impl PendingConnection {
    /// Resolves when the connection must close, because others need its place.
    pub(crate) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.close.cancelled()
    }

    /// A flag for the socket: whether the peer does not read what it was sent.
    pub(crate) fn blocked_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_blocked)
    }

    /// Notes that a complete request has arrived.
    pub(crate) fn begin_request(&self) {
        self.set(State::Request);
    }

    /// Notes that the response has been written.
    pub(crate) fn end_request(&self) {
        self.set(State::Idle);
    }

    fn set(&self, state: State) {
        self.shared.in_use.lock().pending.set(self.id, state, Instant::now());
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.shared.in_use.lock().pending.remove(self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut in_use = self.shared.in_use.lock();
        in_use.streams -= 1;
        if let Some(address) = self.address
            && let Some(open) = in_use.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                in_use.addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
