//! Subscribers that reconnect as real clients do and record all rounds that they receive.

use parking_lot::Mutex;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use fastrand::Rng;
use tokio::{sync::watch, time::Instant};

use crate::{
    link::{Arrival, Link},
    testbed::NodeAddress,
    transactions::{Token, TransactionLog},
};

/// More than the rounds of the last transaction and the datagrams that may arrive after them. Searching
/// all rounds at each arrival would take minutes at the end of a long run.
const LAST_ROUNDS: usize = 64;

/// The HTTP client: it opens a connection for each request.
pub(crate) fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
        client.build().unwrap_or_default()
    })
}

/// The transport of a subscriber.
#[expect(clippy::enum_variant_names, reason = "the protocol's name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Sse,
    /// Datagrams may be lost: the client reconnects and resumes after the last round of a stream.
    WebTransport,
}

/// The behavior of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Stays connected and reads.
    Steady,
    /// Reads with long pauses.
    Slow,
    /// Disconnects without a close, and resumes.
    Leaving,
    /// Disconnects, and connects without a resume point.
    Forgetful,
}

/// A selection: its path and the games in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    pub(crate) path: &'static str,
    pub(crate) games: &'static [&'static str],
}

/// One connection: its resume point and the rounds received.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) process: u32,
    /// The time after the handshake.
    pub(crate) connected: u64,
    /// The resume point.
    pub(crate) after: Option<(i64, Token)>,
    /// Whether the stream started over: without a resume point, or after a gap.
    pub(crate) starts_over: bool,
    /// Whether the server reported a gap.
    pub(crate) gap: bool,
    pub(crate) rounds: Vec<(i64, Token)>,
    /// The last round before which no round can be missing.
    pub(crate) sure: Option<(i64, Token)>,
}

impl ConnectionRecord {
    /// The rounds up to `sure`.
    fn replayed(&self) -> &[(i64, Token)] {
        let end = self.rounds.iter().rposition(|round| Some(*round) == self.sure);
        end.and_then(|last| self.rounds.get(..=last)).unwrap_or_default()
    }
}

/// A subscriber and the records of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) transport: Transport,
    pub(crate) behavior: Behavior,
    pub(crate) selection: Selection,
    /// The node that it connects to; `None` to use all nodes in turn.
    pub(crate) node: Option<usize>,
    pub(crate) connections: Arc<Mutex<Vec<ConnectionRecord>>>,
}

/// State that all subscribers share.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) addresses: watch::Receiver<Vec<NodeAddress>>,
    pub(crate) tx_log: Arc<TransactionLog>,
    /// The last transaction of the run, once it has begun: it finishes a round of every game.
    pub(crate) last_tx: watch::Receiver<Option<usize>>,
}

impl Subscriber {
    pub(crate) fn new(
        transport: Transport,
        behavior: Behavior,
        selection: Selection,
        node: Option<usize>,
    ) -> Self {
        Self { transport, behavior, selection, node, connections: Arc::default() }
    }

    /// Whether the order of this subscriber is the reference for the others.
    pub(crate) fn sees_all(&self) -> bool {
        let steady = self.behavior == Behavior::Steady && self.transport == Transport::WebSocket;
        steady && self.selection.path.is_empty()
    }

    /// Connects until it has received the last round of each of its games.
    pub(crate) async fn run(self, mut env: Environment, mut rng: Rng) {
        let (mut after, mut tries) = (None, 0);
        while !self.has_all(*env.last_tx.borrow()) {
            let Some(address) = self.address(&env, tries) else { return };
            tries += 1;
            let named = after.filter(|_| self.behavior != Behavior::Forgetful);
            match Link::open(self.transport, address, self.selection.path, named.map(|(id, _)| id))
                .await
            {
                Some(link) => {
                    self.record_connection(&env, address, named);
                    self.read(link, &mut env, &mut rng).await;
                    after = self.last();
                }
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            if self.behavior == Behavior::Leaving && env.last_tx.borrow().is_none() {
                tokio::time::sleep(Duration::from_millis(rng.u64(..1500))).await;
            }
        }
    }

    fn address(&self, env: &Environment, tries: usize) -> Option<NodeAddress> {
        let addresses = env.addresses.borrow();
        addresses.iter().cycle().nth(self.node.unwrap_or(tries % addresses.len())).copied()
    }

    fn record_connection(
        &self,
        env: &Environment,
        address: NodeAddress,
        after: Option<(i64, Token)>,
    ) {
        let connected = env.tx_log.now();
        let (starts_over, gap, rounds, sure) = (after.is_none(), false, Vec::new(), None);
        let process = address.process;
        let connection =
            ConnectionRecord { process, connected, after, starts_over, gap, rounds, sure };
        self.connections().push(connection);
    }

    async fn read(&self, mut link: Link, env: &mut Environment, rng: &mut Rng) {
        let leave = Instant::now() + Duration::from_millis(rng.u64(20..2_500));
        loop {
            let finishing = env.last_tx.borrow().is_some();
            if self.has_all(*env.last_tx.borrow()) {
                return;
            }
            self.pause(finishing, rng).await;
            let deadline = self.leaves(finishing).then_some(leave);
            let arrival = tokio::select! {
                arrival = link.next() => arrival,
                () = until(deadline) => return,
                _ = env.last_tx.changed() => continue,
            };
            if !self.record(arrival) {
                return;
            }
        }
    }

    /// Records an arrival; returns whether the connection continues.
    fn record(&self, arrival: Arrival) -> bool {
        let mut connections = self.connections();
        let Some(connection) = connections.last_mut() else { return false };
        match arrival {
            Arrival::Round { initial, round_id, token, sure } => {
                if initial && connection.after.is_some() {
                    (connection.starts_over, connection.gap) = (true, true);
                }
                connection.rounds.push((round_id, token));
                if sure {
                    connection.sure = Some((round_id, token));
                }
                true
            }
            Arrival::Gap => {
                (connection.starts_over, connection.gap) = (true, true);
                false
            }
            Arrival::End => false,
        }
    }

    /// The next resume point: the last sure round, or none after a gap.
    fn last(&self) -> Option<(i64, Token)> {
        let connections = self.connections();
        for connection in connections.iter().rev() {
            if connection.sure.is_some() {
                return connection.sure;
            }
            if connection.gap {
                return None;
            }
        }
        None
    }

    /// The last round of all connections.
    pub(crate) fn last_round(&self) -> Option<(i64, Token)> {
        let connections = self.connections();
        connections.iter().rev().find_map(|connection| connection.rounds.last().copied())
    }

    fn has_all(&self, last_tx: Option<usize>) -> bool {
        let Some(tx) = last_tx else { return false };
        let connections = self.connections();
        let rounds = connections.iter().rev().take(8).flat_map(|connection| match self.transport {
            // Only the replay of a connection is complete.
            Transport::WebTransport => last_of(connection.replayed()),
            _ => last_of(&connection.rounds),
        });
        let mut seen: Vec<u32> =
            rounds.filter(|(_, token)| token.tx == tx).map(|(_, token)| token.n).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len() >= self.selection.games.len()
    }

    async fn pause(&self, finishing: bool, rng: &mut Rng) {
        if self.behavior != Behavior::Slow || finishing {
            return;
        }
        // One pause in 800 is longer than two heartbeats, the server's limit.
        let ms = match rng.u16(..800) {
            0 => rng.u64(2_000..4_000),
            1..20 => rng.u64(..60),
            _ => return,
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// At the end of the run every subscriber stays connected, except over WebTransport: rounds lost
    /// with datagrams come with the replay of the next connection.
    fn leaves(&self, finishing: bool) -> bool {
        if finishing {
            return self.transport == Transport::WebTransport;
        }
        matches!(self.behavior, Behavior::Leaving | Behavior::Forgetful)
    }

    fn connections(&self) -> parking_lot::MutexGuard<'_, Vec<ConnectionRecord>> {
        self.connections.lock()
    }
}

/// The rounds among which those of the last transaction are: it began after all others had ended.
fn last_of(rounds: &[(i64, Token)]) -> &[(i64, Token)] {
    &rounds[rounds.len().saturating_sub(LAST_ROUNDS)..]
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
