//! The start of an edge: the directory, the latest round of each game, recent rounds.

use std::collections::HashMap;

use super::{Edge, Place, Progress};
use crate::stream::{
    bus::{
        BusError,
        codec::is_repeat,
        log::Log,
        read::ReadFrom,
        takeover::{self, last_mark},
        whole::round_ending_with,
    },
    hub::Captured,
    round::{GameId, Round},
    snapshot::Snapshot,
};

/// The most messages of a fill.
const FILL_MAX: u64 = 1_000_000;

/// Rounds with which the hub is filled before it opens.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Rounds of the outbox that a leader repeated when the log began, in the order of their
    /// transactions.
    recent: Vec<Captured>,
    /// The latest rounds of games: those older than what the fill reads, and those without a row of
    /// the outbox.
    latest: HashMap<GameId, Round>,
    /// Rounds that follow, in the order of the log.
    live: Vec<Captured>,
}

impl Collected {
    pub(super) fn add(&mut self, captured: Captured, is_repeat: bool) {
        match (is_repeat, captured.at) {
            // A repeat is of another place, or from before the log: nobody knows its order.
            (true, Some(_)) => self.recent.push(captured),
            (true, None) => self.add_latest(captured.round),
            (false, _) => self.live.push(captured),
        }
    }

    /// How many rounds have a place in the order of the log.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    fn add_latest(&mut self, round: Round) {
        let known = self.latest.get(&round.game_id);
        if known.is_none_or(|known| known.age() <= round.age()) {
            self.latest.insert(round.game_id.clone(), round);
        }
    }
}

impl<L: Log> Edge<L> {
    /// Reads what the log has by now. Streams open once a leader has marked it as complete.
    pub(super) async fn fill(&mut self) -> Result<(), BusError> {
        let log = self.settings.log.clone();
        let ends = log.ends().await?;
        let floor = takeover::floor(&log, ends.last).await?;
        self.games.replace(takeover::directory(&log, floor, ends.last).await?);
        let since = chrono::Utc::now().timestamp() - self.settings.fill.as_secs().cast_signed();
        let first = log.read(ReadFrom::Time(since)).await?.first().map(|entry| entry.seq);
        let begin = first.unwrap_or(ends.last).min(ends.last);
        let begin = begin.max(ends.last.saturating_sub(FILL_MAX)).max(floor).max(ends.first);
        let begin = self.back_to_mark(begin, ends, floor).await?;
        let mut collected = Collected::default();
        for round in self.latest_of_games(begin, floor, ends.last).await? {
            collected.add_latest(round);
        }
        self.progress = Progress::Starting(collected);
        (self.place, self.term) = (Place::after(begin.saturating_sub(1)), 0);
        (self.open_at, self.needs_fill) = (ends.last, false);
        self.settings.metrics.bus.fills_total.inc();
        Ok(())
    }

    /// Where the fill begins: not behind the last mark, without which the hub does not open.
    async fn back_to_mark(
        &self,
        begin: u64,
        ends: crate::stream::bus::read::Ends,
        floor: u64,
    ) -> Result<u64, BusError> {
        let mark = last_mark(&self.settings.log, ends, floor).await?;
        // Rounds behind the mark's base are continued by what the outbox has up to it.
        Ok(mark.map_or(begin, |mark| begin.min(mark.base.max(floor).max(ends.first))))
    }

    /// The latest round of each game, if it was first written before this sequence. A repetition behind
    /// it counts too: the leader writes again what the log would forget, and an edge that reads on leaves it
    /// out.
    async fn latest_of_games(
        &self,
        begin: u64,
        floor: u64,
        end: u64,
    ) -> Result<Vec<Round>, BusError> {
        let log = &self.settings.log;
        let games = self.games.all();
        let subjects: Vec<_> = games.iter().map(|game| log.subjects().round(&game.id)).collect();
        let mut latest = Vec::with_capacity(subjects.len());
        for entry in log.last_of(&subjects, end).await? {
            if entry.seq < floor || (entry.seq >= begin && !is_repeat(&entry)) {
                continue;
            }
            let message = round_ending_with(log, &entry).await?;
            latest.extend(message.map(|message| message.captured.round));
        }
        Ok(latest)
    }

    /// Puts into the hub what was collected. Every later round is published at once.
    /// `seen`: of the first mark. Rounds of transactions that it sees may be missing, so a resume
    /// that needs them asks the leader.
    pub(super) fn fill_hub(&mut self, seen: &Snapshot) {
        let Progress::Starting(collected) = &mut self.progress else { return };
        let Collected { recent, latest, live } = std::mem::take(collected);
        let publisher = &self.settings.publisher;
        publisher.preload(recent, latest.into_values().collect(), seen.xmax());
        self.place.shift(publisher.position());
        publisher.publish(live);
        self.progress = Progress::Filling;
    }

    /// The log begins again: an edge that is open has other rounds, and starts over.
    pub(super) fn begin(&mut self) {
        if matches!(self.progress, Progress::Open | Progress::Filling) {
            self.settings.metrics.bus.holes_total.inc();
            tracing::warn!("the log begins again: all streams end, and the memory is filled again");
            self.reset();
            self.games.replace(Vec::new());
            self.open_at = self.place.last;
        }
    }

    /// Starts over, since the log lacks messages that this edge has not read (E3).
    pub(super) async fn start_over(&mut self, why: &str) -> Result<(), BusError> {
        self.settings.metrics.bus.holes_total.inc();
        tracing::error!(%why, "the log has a hole: all streams end, and the memory is filled again");
        self.reset();
        self.needs_fill = true;
        self.fill().await
    }

    fn reset(&mut self) {
        self.rounds.clear();
        let publisher = &self.settings.publisher;
        publisher.close();
        publisher.end_streams();
        publisher.forget_all();
        self.known = Default::default();
        self.assembly.reset();
        self.moves += 1;
        self.is_rewriting = false;
        self.waiting.clear();
        self.missing_since = None;
        self.progress = Progress::Starting(Collected::default());
    }
}
