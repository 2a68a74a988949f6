//! An edge: fills and feeds a hub from the log, without a database.
//!
//! It subscribes to what the stream publishes again, and uses no consumer: of 30 edges with ordered
//! consumers 5 to 8 stood still after one NATS node was killed. Gaps are filled by direct gets.
//!
//! * **E1** Messages are read in the order of their sequences, each once.
//! * **E2** A round is published once, even if NATS lost it and it was appended again.
//! * **E3** If the log lacks a message that this edge has not read, its streams end, and it starts
//!   over: it never goes on as if nothing were missing.
//! * **E4** Nor does it pass over a message that it cannot read: its streams end, and it stays
//!   unready.
//! * **E5** Nor does it pass over the claim of another leader. A replica or a mirror that did not
//!   follow a loss lacks it: another replica may have it, or the mirror is made again.

mod follow;
mod known_games;
mod lacking;
mod leader;
mod live;
mod place;
mod rewrite;
mod start;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::{
    known_games::KnownGames,
    place::{Place, Relation},
    start::Collected,
};
use super::{
    BusError, LeaderView,
    beat::Beat,
    codec::{self, LogMessage, RoundMessage},
    known::KnownRounds,
    log::Log,
    read::{LogEntry, ReadFrom},
    request::Bus,
    waiting::Waiting,
    whole::Assembly,
};
use crate::{
    ops::{phase::Phase, telemetry::metrics::Metrics},
    stream::{
        games::Games,
        hub::{Captured, DurablePosition, Position, Publisher},
        snapshot::Snapshot,
    },
};

/// A missing message may come by another way within this time.
const PATIENCE: Duration = Duration::from_millis(50);

/// Messages behind a missing one have this part of the memory for rounds.
const WAITING_PART: usize = 4;

/// What an edge works with.
#[derive(Debug)]
pub(crate) struct EdgeSettings<L = Bus> {
    pub(crate) log: L,
    pub(crate) publisher: Publisher,
    pub(crate) games: Games,
    pub(crate) metrics: Metrics,
    /// How far back the fill reads.
    pub(crate) fill: Duration,
    pub(crate) phase: watch::Sender<Phase>,
    /// The leader, as it was last seen.
    pub(crate) leader: watch::Sender<Option<LeaderView>>,
    /// The name of the space of the last mark's transaction ids, for questions.
    pub(crate) space: Arc<AtomicU64>,
    /// The sequence up to which the hub has the log.
    pub(crate) read: watch::Sender<u64>,
}

/// How far the edge is.
#[derive(Debug)]
enum Progress {
    /// No mark has been read: rounds are collected.
    Starting(Collected),
    /// Rounds go into the hub, which opens at the first mark from this sequence on.
    Filling,
    /// The hub is open.
    Open,
    /// A message cannot be read.
    Stuck(String),
}

/// Feeds the hub.
#[derive(Debug)]
pub(crate) struct Edge<L: Log = Bus> {
    settings: EdgeSettings<L>,
    progress: Progress,
    known: KnownRounds,
    place: Place,
    /// Whether nothing is known of the log, or nothing that is still there.
    needs_fill: bool,
    /// The end of the log when the fill began.
    open_at: u64,
    /// The leader's term of the last message; 0 if it is not known.
    term: u64,
    games: KnownGames,
    assembly: Assembly,
    /// Messages behind a missing one.
    waiting: Waiting,
    missing_since: Option<Instant>,
    /// Rounds to publish together.
    rounds: Vec<Captured>,
    /// Whether rounds may be in another order on other edges, until the end of the log is read.
    is_rewriting: bool,
    /// The place in the log by which its leader has appended again what NATS lost.
    whole_at: Option<u64>,
    leader: Option<(Beat, Instant)>,
    /// The message before which the claim of its leader is missing, and since when.
    lacking: Option<(u64, Instant)>,
    /// Since when, and why, the log cannot be read.
    failing: Option<(Instant, String)>,
    /// How many times it has gone to another place of the log: what was asked before does not count.
    moves: u64,
}

impl<L: Log> Edge<L> {
    pub(crate) fn new(settings: EdgeSettings<L>) -> Self {
        let share = settings.publisher.history_share();
        let (assembly, waiting) = (Assembly::up_to(share), Waiting::up_to(share / WAITING_PART));
        Self {
            settings,
            progress: Progress::Starting(Collected::default()),
            known: KnownRounds::default(),
            place: Place::default(),
            needs_fill: true,
            open_at: 0,
            term: 0,
            games: KnownGames::default(),
            assembly,
            waiting,
            missing_since: None,
            rounds: Vec::new(),
            is_rewriting: false,
            whole_at: None,
            leader: None,
            lacking: None,
            failing: None,
            moves: 0,
        }
    }

    /// A message that the stream published again. `verify`: this edge may have missed others, as
    /// after a new connection. Returns how it relates to what was read.
    pub(super) fn receive(&mut self, entry: LogEntry, verify: bool) -> Relation {
        if matches!(self.progress, Progress::Stuck(_)) {
            return Relation::Read;
        }
        let relation = self.place.relation(&entry);
        match relation {
            // The log may have been written again before another leader's message.
            Relation::Next if !verify && codec::term(&entry) == Some(self.term) => {
                self.read_on(&entry);
            }
            Relation::Next => {
                self.missing_since = Instant::now().checked_sub(PATIENCE);
                self.waiting.insert(entry);
            }
            Relation::Ahead => {
                self.missing_since.get_or_insert_with(Instant::now);
                self.waiting.insert(entry);
            }
            Relation::Read | Relation::Rewritten => {}
        }
        relation
    }

    /// Reads the next message, and those that waited for it.
    fn read_on(&mut self, entry: &LogEntry) {
        self.apply(entry);
        while let Some(next) = self.waiting.next(self.place.last, self.term) {
            self.apply(&next);
        }
        self.drop_read();
    }

    fn drop_read(&mut self) {
        self.waiting.forget_up_to(self.place.last);
        if self.waiting.is_empty() {
            self.missing_since = None;
        }
    }

    /// Reads by direct gets up to the end of the log.
    pub(super) async fn catch_up(&mut self) -> Result<(), BusError> {
        while !matches!(self.progress, Progress::Stuck(_)) {
            // With the last message: NATS may have lost it, and the leader written another one.
            let remembers = self.place.remembers_last();
            let from = if remembers { self.place.last } else { self.place.last + 1 };
            let mut entries = self.settings.log.read(ReadFrom::Sequence(from)).await?;
            if remembers && entries.first().is_some_and(|first| first.seq == from) {
                let first = entries.remove(0);
                if !self.place.has_read(&first) {
                    self.go_back().await?;
                    continue;
                }
            } else if remembers && let Some(first) = entries.first() {
                self.start_over(&format!("message {from} is gone, {} follows", first.seq)).await?;
                continue;
            }
            if entries.is_empty() {
                break;
            }
            if !self.apply_all(&entries).await? {
                continue;
            }
        }
        self.drop_read();
        self.lacking = None;
        // A replica that lags answers with less than was received.
        self.missing_since = (!self.waiting.is_empty()).then(Instant::now);
        Ok(())
    }

    /// Reads messages of direct gets. Returns false if the log lacks one between them.
    async fn apply_all(&mut self, entries: &[LogEntry]) -> Result<bool, BusError> {
        self.settings.metrics.bus.filled_messages_total.inc_by(entries.len() as u64);
        for entry in entries {
            let expected = self.place.last + 1;
            if entry.seq > expected && matches!(self.progress, Progress::Open | Progress::Filling) {
                let lacks = format!("messages {expected} to {} are gone", entry.seq - 1);
                self.start_over(&lacks).await?;
                return Ok(false);
            }
            if !self.follows(entry) {
                return Err(self.lacks_claim(entry).await);
            }
            self.apply(entry);
        }
        self.flush();
        self.settings.publisher.wait_for_outlets().await;
        Ok(true)
    }

    /// Reads one message.
    fn apply(&mut self, entry: &LogEntry) {
        if matches!(self.progress, Progress::Stuck(_)) {
            return;
        }
        let message = self.assembly.add(&self.settings.log, entry);
        let mark = codec::read_mark(entry);
        match (message, mark) {
            (Ok(message), Ok(mark)) => {
                if let Some(message) = message {
                    self.take(message);
                }
                self.place.advance(entry, self.position());
                self.term = codec::term(entry).unwrap_or_default();
                mark.into_iter().for_each(|mark| self.reach(&mark, codec::is_whole(entry)));
            }
            (Err(error), _) | (_, Err(error)) => self.refuse(entry, &error),
        }
    }

    fn take(&mut self, message: LogMessage) {
        match message {
            LogMessage::Round(round) => self.take_round(*round),
            LogMessage::Game(change) => {
                self.games.change(change);
            }
            // Other edges may know what is before it in another order.
            LogMessage::Claim { lost: true, .. } => self.share_rewritten(),
            LogMessage::Begin => self.begin(),
            LogMessage::Claim { .. } | LogMessage::Mark | LogMessage::Part { .. } => {}
        }
    }

    fn take_round(&mut self, round: RoundMessage) {
        if self.known.has(&round) {
            self.settings.metrics.bus.left_out_total.inc();
            return;
        }
        let RoundMessage { captured, is_repeat, .. } = round;
        match &mut self.progress {
            Progress::Starting(collected) => {
                self.known.insert(&captured);
                let publisher = &self.settings.publisher;
                let latest = collected.add(captured, is_repeat, publisher.history_share());
                publisher.preload_latest(latest);
            }
            // This edge has it, or had it: repeats are for edges that start.
            Progress::Open | Progress::Filling if is_repeat => {
                self.settings.metrics.bus.left_out_total.inc();
            }
            Progress::Open | Progress::Filling => {
                self.known.insert(&captured);
                self.observe_delay(&captured);
                self.rounds.push(captured);
            }
            Progress::Stuck(_) => {}
        }
    }

    fn observe_delay(&self, captured: &Captured) {
        let (Some(at), Progress::Open) = (captured.at, &self.progress) else { return };
        let delay = chrono::Utc::now().timestamp_micros() - at;
        self.settings.metrics.bus.commit_to_edge_seconds.observe(delay.max(0) as f64 / 1e6);
    }

    /// All rounds up to the mark are read: replays from the outbox may begin there.
    fn reach(&mut self, mark: &codec::PositionMark, is_whole: bool) {
        let Ok(snapshot) = mark.snapshot.parse::<Snapshot>() else { return };
        self.known.reach(mark);
        self.fill_hub(&snapshot);
        self.flush();
        self.note_mark(is_whole);
        // What was published before is beyond the mark of a log that was written again.
        if !self.is_rewriting {
            self.settings.publisher.share(mark.is_shared);
            self.settings.space.store(mark.space.name(), Ordering::Relaxed);
            self.settings.publisher.set_durable_position(DurablePosition {
                oldest_running: snapshot.xmin(),
                snapshot: mark.snapshot.as_str().into(),
                position: self.place.position_at(mark.base),
            });
        }
        let is_filled =
            matches!(self.progress, Progress::Filling) && self.place.last >= self.open_at;
        // Replays begin at the durable position.
        if is_filled && !self.is_rewriting {
            self.progress = Progress::Open;
            self.settings.publisher.open();
        }
    }

    /// A message that cannot be read is never passed over in silence (E4).
    fn refuse(&mut self, entry: &LogEntry, error: &codec::BadMessage) {
        self.settings.metrics.bus.unreadable_total.inc();
        tracing::error!(
            seq = entry.seq,
            %error,
            "cannot read a message of the log: all streams end. Upgrade this server."
        );
        self.flush();
        self.settings.publisher.close();
        self.settings.publisher.end_streams();
        self.progress = Progress::Stuck(format!("message {} of the log: {error}", entry.seq));
    }

    /// The hub's position after the rounds so far. Before the fill, only those that will follow it count.
    fn position(&self) -> Position {
        let (before, waiting) = match &self.progress {
            Progress::Starting(collected) => (0, collected.live()),
            _ => (self.settings.publisher.position().0, self.rounds.len()),
        };
        Position(before + waiting as u64)
    }

    /// Publishes what was read since the last time.
    pub(super) fn flush(&mut self) {
        if let Some(games) = self.games.take_changed() {
            self.settings.publisher.hub().classify(&games);
            self.settings.games.replace(games);
        }
        let rounds = std::mem::take(&mut self.rounds);
        self.settings.publisher.publish(rounds);
        self.settings
            .read
            .send_if_modified(|read| std::mem::replace(read, self.place.last) != self.place.last);
    }

    /// The fill, for the model.
    #[cfg(test)]
    pub(super) async fn fill_in_test(&mut self) {
        let _ = self.fill().await;
    }

    /// A comparison with the end of the log, for the model.
    #[cfg(test)]
    pub(super) async fn compare_in_test(&mut self) -> Result<(), BusError> {
        let looked = self.look_in(Duration::ZERO).await?;
        self.compare(looked).await
    }

    /// A live message, for the model: as [`Self::run`] takes it.
    #[cfg(test)]
    pub(super) async fn receive_in_test(&mut self, entry: LogEntry) {
        if self.receive(entry, false) == Relation::Rewritten {
            let _ = self.go_back().await;
        }
    }
}
