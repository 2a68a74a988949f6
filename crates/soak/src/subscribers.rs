//! Subscribers that come back as real clients do, and write down all that they are given.

use parking_lot::Mutex;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use fastrand::Rng;
use tokio::{sync::watch, time::Instant};

use crate::{
    ledger::{Ledger, Token},
    link::{Arrival, Link},
    stage::Door,
};

/// More than the rounds of the last transaction and the datagrams that may arrive behind them. (To
/// look through all rounds at each would take a client minutes at the end of a long run.)
const LAST_ROUNDS: usize = 64;

/// The client of all HTTP: each request has a connection of its own.
pub(crate) fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
        client.build().unwrap_or_default()
    })
}

/// How a subscriber comes.
#[expect(clippy::enum_variant_names, reason = "the protocol's name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Sse,
    /// Its datagrams may be lost: it leaves, and resumes from the last round that a stream brought.
    WebTransport,
}

/// What a subscriber is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Stays and reads.
    Steady,
    /// Reads with long pauses.
    Slow,
    /// Leaves without a word, and resumes.
    Leaving,
    /// Leaves and comes back without saying where it was.
    Forgetful,
}

/// A selection: its path and the games in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    pub(crate) path: &'static str,
    pub(crate) games: &'static [&'static str],
}

/// One connection: what was asked for and what came.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) process: u32,
    /// After the handshake.
    pub(crate) connected: u64,
    /// The round that was named.
    pub(crate) after: Option<(i64, Token)>,
    /// Whether the stream started over: the resume point was gone, or none was named.
    pub(crate) starts_over: bool,
    /// Whether that was said to a client that had named a point.
    pub(crate) gap: bool,
    pub(crate) rounds: Vec<(i64, Token)>,
    /// The last round before which nothing can be missing.
    pub(crate) sure: Option<(i64, Token)>,
}

impl Visit {
    /// The rounds up to the last that is sure.
    fn replayed(&self) -> &[(i64, Token)] {
        let end = self.rounds.iter().rposition(|round| Some(*round) == self.sure);
        end.and_then(|last| self.rounds.get(..=last)).unwrap_or_default()
    }
}

/// A subscriber and its diary.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) transport: Transport,
    pub(crate) habit: Habit,
    pub(crate) selection: Selection,
    /// The node that it stays with; without, it goes to each in turn.
    pub(crate) node: Option<usize>,
    pub(crate) visits: Arc<Mutex<Vec<Visit>>>,
}

/// What all subscribers share.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) doors: watch::Receiver<Vec<Door>>,
    pub(crate) ledger: Arc<Ledger>,
    /// The last transaction, once it is known: it finishes a round of every game.
    pub(crate) fence: watch::Receiver<Option<usize>>,
}

impl Subscriber {
    pub(crate) fn new(
        transport: Transport,
        habit: Habit,
        selection: Selection,
        node: Option<usize>,
    ) -> Self {
        Self { transport, habit, selection, node, visits: Arc::default() }
    }

    /// Whether it is one that others are compared with.
    pub(crate) fn sees_all(&self) -> bool {
        let steady = self.habit == Habit::Steady && self.transport == Transport::WebSocket;
        steady && self.selection.path.is_empty()
    }

    /// Comes and goes until it has seen the last round of each of its games.
    pub(crate) async fn run(self, mut world: World, mut rng: Rng) {
        let (mut after, mut tries) = (None, 0);
        while !self.has_all(*world.fence.borrow()) {
            let Some(door) = self.door(&world, tries) else { return };
            tries += 1;
            let named = after.filter(|_| self.habit != Habit::Forgetful);
            match Link::open(self.transport, door, self.selection.path, named.map(|(id, _)| id))
                .await
            {
                Some(link) => {
                    self.note_visit(&world, door, named);
                    self.read(link, &mut world, &mut rng).await;
                    after = self.last();
                }
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            if self.habit == Habit::Leaving && world.fence.borrow().is_none() {
                tokio::time::sleep(Duration::from_millis(rng.u64(..1500))).await;
            }
        }
    }

    fn door(&self, world: &World, tries: usize) -> Option<Door> {
        let doors = world.doors.borrow();
        doors.iter().cycle().nth(self.node.unwrap_or(tries % doors.len())).copied()
    }

    fn note_visit(&self, world: &World, door: Door, after: Option<(i64, Token)>) {
        let connected = world.ledger.now();
        let (starts_over, gap, rounds, sure) = (after.is_none(), false, Vec::new(), None);
        let process = door.process;
        let visit = Visit { process, connected, after, starts_over, gap, rounds, sure };
        self.diary().push(visit);
    }

    async fn read(&self, mut link: Link, world: &mut World, rng: &mut Rng) {
        let leave = Instant::now() + Duration::from_millis(rng.u64(20..2_500));
        loop {
            let hurry = world.fence.borrow().is_some();
            if self.has_all(*world.fence.borrow()) {
                return;
            }
            self.pause(hurry, rng).await;
            let deadline = self.leaves(hurry).then_some(leave);
            let arrival = tokio::select! {
                arrival = link.next() => arrival,
                () = until(deadline) => return,
                _ = world.fence.changed() => continue,
            };
            if !self.note(arrival) {
                return;
            }
        }
    }

    /// Writes an arrival down; says whether the connection goes on.
    fn note(&self, arrival: Arrival) -> bool {
        let mut diary = self.diary();
        let Some(visit) = diary.last_mut() else { return false };
        match arrival {
            Arrival::Round { initial, round_id, token, sure } => {
                if initial && visit.after.is_some() {
                    (visit.starts_over, visit.gap) = (true, true);
                }
                visit.rounds.push((round_id, token));
                if sure {
                    visit.sure = Some((round_id, token));
                }
                true
            }
            Arrival::Gap => {
                (visit.starts_over, visit.gap) = (true, true);
                false
            }
            Arrival::End => false,
        }
    }

    /// A client that was told of a gap starts over; any other resumes from the last it has.
    fn last(&self) -> Option<(i64, Token)> {
        let diary = self.diary();
        for visit in diary.iter().rev() {
            if visit.sure.is_some() {
                return visit.sure;
            }
            if visit.gap {
                return None;
            }
        }
        None
    }

    fn has_all(&self, fence: Option<usize>) -> bool {
        let Some(tx) = fence else { return false };
        let diary = self.diary();
        let rounds = diary.iter().rev().take(8).flat_map(|visit| match self.transport {
            // What the replay of the last visit brought is complete.
            Transport::WebTransport => last_of(visit.replayed()),
            _ => last_of(&visit.rounds),
        });
        let mut seen: Vec<u32> =
            rounds.filter(|(_, token)| token.tx == tx).map(|(_, token)| token.n).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len() >= self.selection.games.len()
    }

    async fn pause(&self, hurry: bool, rng: &mut Rng) {
        if self.habit != Habit::Slow || hurry {
            return;
        }
        // One pause in 800 is longer than the server's patience of two heartbeats.
        let ms = match rng.u16(..800) {
            0 => rng.u64(2_000..4_000),
            1..20 => rng.u64(..60),
            _ => return,
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// At the end all stay, but those whom datagrams have left something out: it comes with the
    /// next visit.
    fn leaves(&self, hurry: bool) -> bool {
        if hurry {
            return self.transport == Transport::WebTransport;
        }
        matches!(self.habit, Habit::Leaving | Habit::Forgetful)
    }

    fn diary(&self) -> parking_lot::MutexGuard<'_, Vec<Visit>> {
        self.visits.lock()
    }
}

/// Where the last transaction's rounds are, if they came: it began when all others were over.
fn last_of(rounds: &[(i64, Token)]) -> &[(i64, Token)] {
    &rounds[rounds.len().saturating_sub(LAST_ROUNDS)..]
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
