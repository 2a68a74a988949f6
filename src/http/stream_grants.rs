//! Grants of streams: the limits on open streams, and the part of an opening that can fail or wait.

use std::net::IpAddr;

use axum::http::{HeaderValue, StatusCode, header};

use super::{
    hand_off::{Client, Grant},
    problem::Problem,
};
use crate::{
    access::Lease,
    ops::{
        connection_limiter::{ConnectionLimiter, LimitReached, Permit},
        memory_budget::{Charge, ConnectionCost, MemoryBudget},
        shutdown::Shutdown,
        telemetry::metrics::{MemoryUse, Metrics, Transport},
    },
    stream::{
        feed::{Feed, FeedError, Prepared},
        start_point::StartPoint,
        topic::Topic,
    },
    transport::{GrantedSession, Protocol, SessionRecord, wt},
};

/// A full server asks clients to retry after 1 to 10 s, so that they do not all return at once.
const FULL_RETRY_SECONDS_MAX: u8 = 10;

/// Grants streams within the limits.
#[derive(Debug)]
pub(super) struct StreamGrants {
    feed: Feed,
    limiter: ConnectionLimiter,
    budget: MemoryBudget,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// What a stream holds of the limits until it ends.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _place: Permit,
    _memory: Charge,
}

impl StreamGrants {
    pub(super) fn new(
        feed: Feed,
        limiter: ConnectionLimiter,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        let budget = feed.budget().clone();
        Self { feed, limiter, budget, metrics, shutdown }
    }

    /// Grants a WebSocket or an event stream.
    pub(super) async fn stream(
        &self,
        protocol: Protocol,
        client: Client,
        topic: Topic,
        start: StartPoint,
        lease: Lease,
    ) -> Result<Grant, Problem> {
        let transport = protocol.transport();
        let cost = match client.is_encrypted {
            true => ConnectionCost::EncryptedStream,
            false => ConnectionCost::Stream,
        };
        let opening = (topic, start);
        let (permit, prepared) = self.prepare((transport, cost), client.address, opening).await?;
        Ok(Grant { prepared, protocol, permit, lease })
    }

    /// Whether a client would be refused now because the server is full or stops. `HEAD` asks so.
    pub(super) fn check(&self, client: Option<IpAddr>) -> Result<(), Problem> {
        self.check_running()?;
        self.limiter.check(client).map_err(|reached| limit_problem(Transport::sse, reached))
    }

    fn check_running(&self) -> Result<(), Problem> {
        if self.shutdown.is_requested() {
            return Err(Problem::unavailable("the server is shutting down", 1).temporary());
        }
        Ok(())
    }

    /// Grants and opens a WebTransport session.
    pub(super) async fn session(
        &self,
        client: Option<IpAddr>,
        topic: Topic,
        start: StartPoint,
        lease: Lease,
    ) -> Result<GrantedSession, Problem> {
        let transport = Transport::webtransport;
        let cost = ConnectionCost::WebTransport;
        let (permit, prepared) = self.prepare((transport, cost), client, (topic, start)).await?;
        let (opening, stored, subscription) = prepared.subscribe().await?;
        let memory = self.budget.of_client(client);
        let bytes = wt::opening_bytes(&opening, stored.is_some());
        let opening_memory = memory.take(MemoryUse::replays, bytes).map_err(FeedError::from)?;
        let record = SessionRecord::open(&self.metrics, transport, &self.shutdown, permit);
        Ok(GrantedSession { opening, stored, subscription, record, lease, opening_memory, memory })
    }

    /// Acquires what a stream holds, and prepares its opening.
    async fn prepare(
        &self,
        (transport, cost): (Transport, ConnectionCost),
        client: Option<IpAddr>,
        (topic, start): (Topic, StartPoint),
    ) -> Result<(StreamPermit, Prepared), Problem> {
        self.check_running()?;
        let permit = self.limiter.acquire(client).map_err(|reached| {
            self.metrics.connections_refused_total.inc();
            limit_problem(transport, reached)
        })?;
        let memory = self.budget.take_connection(cost, client).map_err(|exhausted| {
            self.metrics.connections_refused_total.inc();
            full_problem(transport, exhausted.to_string())
        })?;
        let prepared = self.feed.prepare(topic, start, client).await?;
        Ok((StreamPermit { _place: permit, _memory: memory }, prepared))
    }
}

/// The refusal of a full server. WebTransport passes no header to a page: its status must show that
/// the number of streams is the reason.
fn full_problem(transport: Transport, detail: String) -> Problem {
    let status = match transport {
        Transport::webtransport => StatusCode::TOO_MANY_REQUESTS,
        Transport::websocket | Transport::sse => StatusCode::SERVICE_UNAVAILABLE,
    };
    let seconds = fastrand::u8(1..=FULL_RETRY_SECONDS_MAX);
    let seconds = HeaderValue::from(u16::from(seconds));
    Problem::new(status, detail).with(header::RETRY_AFTER, seconds)
}

/// The refusal at a limit.
fn limit_problem(transport: Transport, reached: LimitReached) -> Problem {
    let problem = full_problem(transport, reached.to_string());
    match reached {
        // Temporary: the next second has room, but 503 would stop an `EventSource` for good.
        LimitReached::Rate => problem.temporary(),
        LimitReached::Streams | LimitReached::Address => problem,
    }
}
