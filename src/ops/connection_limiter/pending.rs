//! Connections that hold no stream: they have sent no complete request, are idle between two
//! requests, or wait for the response to one.
//!
//! Each is registered from its accept to its end. More than the limits permit never stay: the one
//! that has waited longest is closed, and of those, one of the address that has most.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use slab::Slab;
use tokio_util::sync::CancellationToken;

use crate::ops::telemetry::metrics::PendingState;

/// How long a connection may wait for its first bytes although the limits are exceeded: a request
/// usually comes with the connection, and a lost packet is repeated within this time.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection without a stream was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP: HTTP, and WebSocket and SSE before their grant.
    Http,
    /// QUIC: WebTransport before its grant.
    Quic,
}

/// What a connection without a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has sent no complete request.
    NoRequest,
    /// It has been answered, and has sent no further request.
    Idle,
    /// It waits for a response.
    Request,
    /// It was asked to close, and counts no more.
    Closing,
}

#[derive(Debug)]
pub(super) struct Entry {
    kind: Kind,
    pub(super) address: Option<IpAddr>,
    state: State,
    since: Instant,
    is_blocked: Arc<AtomicBool>,
    close: CancellationToken,
}

/// The connections without a stream.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: Slab<Entry>,
    by_address: HashMap<Option<IpAddr>, usize>,
    http: usize,
    quic: usize,
}

/// Which connections may be closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Among {
    /// All.
    All,
    /// Those of this kind, of the address that has most.
    Crowd(Kind),
    /// Those of this address.
    Address(IpAddr),
}

impl Pending {
    pub(super) fn insert(
        &mut self,
        kind: Kind,
        address: Option<IpAddr>,
        now: Instant,
    ) -> (usize, CancellationToken, Arc<AtomicBool>) {
        let (close, is_blocked) = (CancellationToken::new(), Arc::<AtomicBool>::default());
        *self.by_address.entry(address).or_default() += 1;
        *self.count_mut(kind) += 1;
        let id = self.entries.insert(Entry {
            kind,
            address,
            state: State::NoRequest,
            since: now,
            is_blocked: Arc::clone(&is_blocked),
            close: close.clone(),
        });
        (id, close, is_blocked)
    }

    pub(super) fn remove(&mut self, id: usize) {
        self.uncount(id);
        self.entries.try_remove(id);
    }

    /// Sets the state, unless the connection was asked to close.
    pub(super) fn set(&mut self, id: usize, state: State, now: Instant) {
        let entry = self.entries.get_mut(id).filter(|entry| entry.state != State::Closing);
        if let Some(entry) = entry {
            (entry.state, entry.since) = (state, now);
        }
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Http => self.http,
            Kind::Quic => self.quic,
        }
    }

    pub(super) fn total(&self) -> usize {
        self.http + self.quic
    }

    /// The known addresses, with the number of their connections.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        self.by_address.iter().filter_map(|(address, count)| Some(((*address)?, *count)))
    }

    /// How many connections of this kind are in this state.
    pub(super) fn in_state(&self, kind: Kind, state: State) -> usize {
        self.entries.iter().filter(|(_, it)| it.kind == kind && it.state == state).count()
    }

    /// Asks the connection to close that has waited longest. Without `at_once`, only one that has
    /// waited for [`GRACE`]. Connections that wait for a response are closed last, and only if they
    /// do not read it. Returns the state that it was in.
    pub(super) fn close_oldest(
        &mut self,
        among: Among,
        at_once: bool,
        now: Instant,
    ) -> Option<State> {
        let crowd = match among {
            Among::Crowd(_) => self.by_address.iter().max_by_key(|it| it.1).map(|it| *it.0),
            Among::All | Among::Address(_) => None,
        };
        let is_among = |entry: &Entry| match among {
            Among::All => true,
            Among::Crowd(kind) => entry.kind == kind,
            Among::Address(address) => entry.address == Some(address),
        };
        let rank = |entry: &Entry| {
            let group = match entry.state {
                State::NoRequest | State::Idle => 0,
                State::Request if entry.is_blocked.load(Ordering::Relaxed) => 1,
                State::Request | State::Closing => return None,
            };
            let is_elsewhere = crowd.is_some_and(|crowd| crowd != entry.address);
            Some((group, is_elsewhere, entry.since))
        };
        let old_enough = |entry: &Entry| at_once || now.duration_since(entry.since) >= GRACE;
        let entries = self.entries.iter().filter(|(_, it)| is_among(it) && old_enough(it));
        let oldest = entries.filter_map(|(id, entry)| Some((rank(entry)?, id))).min();
        let (_, id) = oldest?;
        self.uncount(id);
        let entry = self.entries.get_mut(id)?;
        entry.close.cancel();
        Some(std::mem::replace(&mut entry.state, State::Closing))
    }

    fn count_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Http => &mut self.http,
            Kind::Quic => &mut self.quic,
        }
    }

    fn uncount(&mut self, id: usize) {
        let Some(entry) = self.entries.get(id).filter(|entry| entry.state != State::Closing) else {
            return;
        };
        let (kind, address) = (entry.kind, entry.address);
        *self.count_mut(kind) -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl From<State> for PendingState {
    fn from(state: State) -> Self {
        match state {
            State::NoRequest | State::Closing => Self::no_request,
            State::Idle => Self::idle,
            State::Request => Self::request,
        }
    }
}
