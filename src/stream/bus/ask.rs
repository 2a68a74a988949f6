//! An edge's reads of older rounds: it has no database, and asks the leader.

mod reading;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use self::reading::Reading;
use super::{
    LeaderView,
    request::Bus,
    wire::{self, Answered, Question, UNREADABLE},
};
use crate::{
    ops::{
        memory_budget::{CountedBytes, MemoryBudget},
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::{
        list::{ListKey, ListKeys, ListPlace, ListedRounds},
        round::{Game, GameId, NamedRound, Round, RoundId},
        round_store::{Answer, Reach, RoundStore, StoreError, StoredRounds},
        transaction::{Attachment, RoundName, Xid},
    },
};

/// The header of a part of an answer that is not the last one.
pub(super) const MORE: &str = "Ds-More";
/// A leader that works on an answer says so.
pub(super) const SIGN_EVERY: Duration = Duration::from_secs(1);
/// Without a sign for so long the question, or its answer, is lost: a leader or a connection has ended.
const SIGN_WITHIN: Duration = Duration::from_millis(2_500);
/// The same if the leader gives no signs. Its statements end after 10 s, and wait for a connection.
const UNSIGNED_WITHIN: Duration = Duration::from_secs(30);
/// A question is asked again for so long if it was lost with its leader. Another node leads within 3 s.
const AGAIN_WITHIN: Duration = Duration::from_secs(8);
/// A question that met no leader is asked again for so long. Clients should have an answer within 2 s, since
/// some give up after 4 s: while no node leads they get 503, and an `EventSource` is told to retry.
const LEADER_WITHIN: Duration = Duration::from_millis(1_200);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The most bytes of an answer, if the share of replays has more: a replay of 10,000 rounds without content
/// is 2 MB, a page of a list 1 MiB or one round, which has at most an eighth of the memory, and quotes
/// that JSON escapes.
const ANSWER_MAX: usize = 256 << 20;

/// Asks the leader. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BusStore {
    /// Set once this edge is connected.
    bus: Arc<OnceLock<Bus>>,
    metrics: Metrics,
    /// The name of the space of this edge's durable position.
    space: Arc<AtomicU64>,
    budget: MemoryBudget,
    leader: watch::Receiver<Option<LeaderView>>,
    asking: Arc<Asking>,
    reading: Arc<Reading>,
}

/// Why a question has no answer.
#[derive(Debug)]
enum Unanswered {
    /// It, or its answer, was lost with its leader.
    Lost,
    /// There is no leader, or it could not answer.
    Failed(StoreError),
}

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<Unanswered> for StoreError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Lost => unavailable("the leading capture node does not answer"),
            Unanswered::Failed(error) => error,
        }
    }
}

/// Questions at once: as many of each kind as a server has connections for them to its database. One
/// kind must not delay another.
#[derive(Debug)]
struct Asking {
    games: Semaphore,
    rounds: Semaphore,
    replay: Semaphore,
}

impl Asking {
    fn new() -> Self {
        let [games, rounds, replay] = [1, 2, 5].map(Semaphore::new);
        Self { games, rounds, replay }
    }

    async fn turn(&self, question: &Question) -> Result<SemaphorePermit<'_>, StoreError> {
        let kind = match question {
            Question::Games => &self.games,
            Question::Place(_) | Question::Keys { .. } | Question::Rounds { .. } => &self.rounds,
            Question::Points(_) | Question::Replay { .. } | Question::Contents(_) => &self.replay,
        };
        kind.acquire().await.map_err(|_| unavailable("the server stops"))
    }
}

/// The bytes of an answer. They have come already, so they are counted and not refused (B4): meanwhile
/// clients get less of the memory for what was asked.
struct AnswerBytes<'a> {
    bytes: Vec<u8>,
    budget: &'a MemoryBudget,
    usage: MemoryUse,
    counted: Vec<CountedBytes>,
}

impl<'a> AnswerBytes<'a> {
    fn new(budget: &'a MemoryBudget, usage: MemoryUse) -> Self {
        Self { bytes: Vec::new(), budget, usage, counted: Vec::new() }
    }

    fn append(&mut self, part: &[u8]) -> Result<(), StoreError> {
        let most = self.budget.share(MemoryUse::replays).min(ANSWER_MAX);
        if self.bytes.len() + part.len() > most {
            return Err(StoreError::TooMuch("the answer is too large".to_owned()));
        }
        // A sign has none.
        if !part.is_empty() {
            self.counted.push(self.budget.count(self.usage, part.len()));
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }
}

/// What the answer is for.
fn memory_use(question: &Question) -> MemoryUse {
    match question {
        Question::Games | Question::Place(_) | Question::Keys { .. } | Question::Rounds { .. } => {
            MemoryUse::lists
        }
        Question::Points(_) | Question::Replay { .. } | Question::Contents(_) => MemoryUse::replays,
    }
}

impl BusStore {
    /// `read`: how far the edge has read the log. `budget`: for the answers.
    pub(crate) fn new(
        bus: Arc<OnceLock<Bus>>,
        metrics: Metrics,
        space: Arc<AtomicU64>,
        (read, leader): (watch::Receiver<u64>, watch::Receiver<Option<LeaderView>>),
        budget: MemoryBudget,
    ) -> Self {
        let reading = Arc::new(Reading::new(read, leader.clone()));
        Self { bus, metrics, space, budget, leader, asking: Arc::new(Asking::new()), reading }
    }

    /// Asks, for a while also if no capture node leads: one may be about to take over. A question that was
    /// lost with its leader is asked again of the next one.
    async fn ask(&self, question: Question) -> Result<Answered, StoreError> {
        let (begun, mut patience) = (Instant::now(), LEADER_WITHIN);
        loop {
            let unanswered = match self.ask_once(&question).await {
                Ok(answered) => return Ok(answered),
                Err(unanswered) => unanswered,
            };
            match unanswered {
                Unanswered::Lost => patience = AGAIN_WITHIN,
                Unanswered::Failed(StoreError::Unavailable(_)) => {}
                Unanswered::Failed(error) => return Err(error),
            }
            if begun.elapsed() >= patience {
                return Err(unanswered.into());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn ask_once(&self, question: &Question) -> Result<Answered, Unanswered> {
        let _turn = self.asking.turn(question).await?;
        self.metrics.bus.questions_total.inc();
        let mut parts = self.send(question).await?;
        let sign_within = self.sign_within();
        let mut answer = AnswerBytes::new(&self.budget, memory_use(question));
        loop {
            let next = tokio::time::timeout(sign_within, parts.next()).await;
            let Ok(Some(part)) = next else { return Err(Unanswered::Lost) };
            if part.status.is_some_and(|status| status.as_u16() == 503) {
                return Err(unavailable("no capture node leads").into());
            }
            answer.append(&part.payload)?;
            if part.headers.is_none_or(|headers| headers.get_last(MORE).is_none()) {
                break;
            }
        }
        match serde_json::from_slice(&answer.bytes)
            .map_err(|error| unavailable(&error.to_string()))?
        {
            Answered::Failed(failure) => Err(StoreError::from(failure).into()),
            answered => Ok(answered),
        }
    }

    /// Sends a question; returns the subscription to the parts of its answer.
    async fn send(&self, question: &Question) -> Result<Subscriber, StoreError> {
        let payload =
            serde_json::to_vec(question).map_err(|error| unavailable(&error.to_string()))?;
        let bus = self.bus.get().ok_or_else(|| unavailable("not connected to NATS yet"))?;
        let (subject, inbox) = (bus.own_subjects().ask(question.name()), bus.client().new_inbox());
        let parts =
            bus.subscribe(inbox.clone()).await.map_err(|error| unavailable(&error.to_string()))?;
        let sent = bus.client().publish_with_reply(subject, inbox, payload.into()).await;
        sent.map_err(|error| unavailable(&error.to_string()))?;
        Ok(parts)
    }

    /// How long a sign of an answer may take: only some captures give signs.
    fn sign_within(&self) -> Duration {
        let gives_signs = self.leader.borrow().as_ref().is_none_or(|view| view.beat.gives_signs);
        if gives_signs { SIGN_WITHIN } else { UNSIGNED_WITHIN }
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

/// The answer of this kind; every other one is no answer.
macro_rules! expect {
    ($asked:expr, $kind:pat => $value:expr) => {
        match $asked.await? {
            $kind => Ok($value),
            _ => Err(unavailable(UNREADABLE)),
        }
    };
}

impl RoundStore for BusStore {
    fn caught_up(&self) -> BoxFuture<'_, Reach> {
        async {
            let has_read = match self.bus.get() {
                Some(bus) => self.reading.to_end(bus).await,
                None => false,
            };
            if has_read { Reach::End } else { Reach::Behind }
        }
        .boxed()
    }

    fn games(&self) -> Answer<'_, Vec<Game>> {
        async {
            let asked = self.ask(Question::Games);
            expect!(asked, Answered::Games(games) => games.into_iter().map(Game::from).collect())
        }
        .boxed()
    }

    fn list_place<'a>(&'a self, named: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        async move {
            let asked = self.ask(Question::Place(named.to_string()));
            let keys = expect!(asked, Answered::Keys(keys) => keys)?;
            keys.into_iter().map(wire::key_from_wire).collect()
        }
        .boxed()
    }

    fn list_keys<'a>(
        &'a self,
        games: &'a [GameId],
        after: Option<&'a ListPlace>,
        limit: usize,
    ) -> Answer<'a, ListKeys> {
        async move {
            let after = after.map(|place| (place.finished_at.micros(), place.round.clone()));
            let asked = self.ask(Question::Keys { games: games.to_vec(), after, limit });
            let (keys, is_last) =
                expect!(asked, Answered::Page { keys, is_last } => (keys, is_last))?;
            let keys = keys.into_iter().map(wire::key_from_wire).collect::<Result<_, _>>()?;
            Ok(ListKeys { keys, is_last })
        }
        .boxed()
    }

    fn list_rounds<'a>(&'a self, keys: &'a [ListKey], bytes: usize) -> Answer<'a, ListedRounds> {
        async move {
            let keys = keys.iter().map(wire::key_to_wire).collect();
            let asked = self.ask(Question::Rounds { keys, bytes });
            let (rounds, cut) = expect!(asked, Answered::Rounds { rounds, cut } => (rounds, cut))?;
            let rounds = rounds.into_iter().map(wire::WireRound::into_round);
            Ok(ListedRounds { rounds: rounds.collect::<Result<_, _>>()?, cut })
        }
        .boxed()
    }

    fn resume_points<'a>(&'a self, rounds: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>> {
        async move {
            let asked = self.ask(Question::Points(rounds.to_vec()));
            let points = expect!(asked, Answered::Points(points) => points)?;
            Ok(points.into_iter().map(|(round, xid)| (round, Xid(xid))).collect())
        }
        .boxed()
    }

    fn replay<'a>(
        &'a self,
        from: Xid,
        games: Option<&'a [GameId]>,
        limit: usize,
        snapshot: &'a str,
    ) -> Answer<'a, StoredRounds> {
        async move {
            let asked = self.ask(Question::Replay {
                space: self.space.load(Ordering::Relaxed),
                from: from.0,
                games: games.map(<[GameId]>::to_vec),
                limit,
                snapshot: snapshot.to_owned(),
            });
            expect!(asked, Answered::Replay { rounds, is_full, trimmed } => StoredRounds {
                rounds: rounds.into_iter().map(Into::into).collect(),
                is_full,
                trimmed: Xid(trimmed),
            })
        }
        .boxed()
    }

    fn contents<'a>(&'a self, rounds: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        async move {
            let names = rounds.iter().map(|(table, round)| (table.0, round.clone())).collect();
            let asked = self.ask(Question::Contents(names));
            let contents = expect!(asked, Answered::Contents(contents) => contents)?;
            let named = |(table, round): (i32, wire::WireRound)| {
                let round = round.into_round()?;
                Ok(((Attachment(table), round.round_id.clone()), round))
            };
            contents.into_iter().map(named).collect()
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
