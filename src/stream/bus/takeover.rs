//! What the next leader reads of the log before it claims.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    BusError,
    codec::{self, Claim, GameMessage, LogMessage, PositionMark},
    log::Log,
    read::{Ends, LogEntry, ReadFrom},
    whole::{Assembly, round_ending_with},
};
use crate::stream::{
    hub::Captured,
    round::{FinishedAt, Game, GameId, RoundId},
};

/// Messages before the mark's base that are read too: the newest row that no crash can take back
/// shows whether the database is an older copy of itself.
const BEFORE_BASE: u64 = 64;
/// The last message has a mark, unless NATS lost the end of a batch.
const LOOK_BACK: u64 = 1_000;
/// A replica that answers direct gets may lag.
const LAG_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where a game's latest round is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LatestPlace {
    pub(crate) age: (FinishedAt, RoundId),
    pub(crate) seq: u64,
}

/// The log as its next leader finds it.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// The sequence of the last message.
    pub(crate) end: u64,
    /// Up to where the outbox is in the log; `None` if the log has to begin.
    pub(crate) mark: Option<PositionMark>,
    /// The rounds behind the mark's base, in order, without content.
    pub(crate) after: Vec<Captured>,
    /// Some rounds before it.
    pub(crate) before: Vec<Captured>,
    /// The latest round of each game.
    pub(crate) latest: HashMap<GameId, LatestPlace>,
    /// The directory.
    pub(crate) games: Vec<Game>,
    /// The last claim, and its sequence.
    pub(crate) claim: Option<(u64, Claim)>,
    /// The poll of the first round behind the mark's base: the next leader repeats that poll.
    pub(crate) poll: Option<u64>,
}

impl Takeover {
    /// Reads the log.
    pub(crate) async fn read<L: Log>(log: &L) -> Result<Self, BusError> {
        let ends = log.ends().await?;
        let floor = floor(log).await?;
        let mut takeover = Self { end: ends.last, ..Self::default() };
        takeover.mark = last_mark(log, ends, floor).await?;
        if let Some(mark) = takeover.mark.clone() {
            takeover.read_rounds(log, ends, floor, &mark).await?;
            takeover.latest = latest(log, floor).await?;
            takeover.games = directory(log, floor).await?;
        }
        takeover.claim = last_claim(log).await?;
        Ok(takeover)
    }

    /// The rounds of the log since a time, for a database on another timeline: they are not new.
    pub(crate) async fn rounds_since<L: Log>(
        log: &L,
        unix_seconds: i64,
    ) -> Result<Vec<Captured>, BusError> {
        let (ends, floor) = (log.ends().await?, floor(log).await?);
        let first = log.read(ReadFrom::Time(unix_seconds)).await?.first().map(|entry| entry.seq);
        let (mut assembly, mut rounds) = (Assembly::default(), Vec::new());
        let mut reading = Reading::new(ends, first.unwrap_or(ends.last + 1).max(floor));
        while let Some(entries) = reading.next(log).await? {
            for entry in &entries {
                let message = assembly.add(log, entry).map_err(unreadable)?;
                if let Some(LogMessage::Round(mut round)) = message {
                    round.captured.round.extras = Box::default();
                    rounds.push(round.captured);
                }
            }
        }
        Ok(rounds)
    }

    async fn read_rounds<L: Log>(
        &mut self,
        log: &L,
        ends: Ends,
        floor: u64,
        mark: &PositionMark,
    ) -> Result<(), BusError> {
        let (mut assembly, base) = (Assembly::default(), mark.base);
        let space = mark.space.name();
        let first = base.saturating_sub(BEFORE_BASE).max(floor);
        let mut reading = Reading::new(ends, first);
        while let Some(entries) = reading.next(log).await? {
            for entry in &entries {
                let message = assembly.add(log, entry).map_err(unreadable)?;
                let Some(LogMessage::Round(round)) = message else { continue };
                let mut captured = round.captured;
                captured.round.extras = Box::default();
                if entry.seq > base && !round.is_repeat {
                    self.poll.get_or_insert(captured.poll);
                    self.after.push(captured);
                } else if entry.seq <= base && round.space == space && captured.at.is_some() {
                    self.before.push(captured);
                }
            }
        }
        Ok(())
    }
}

/// Reads up to the end, though the replica that answers may lag.
struct Reading {
    ends: Ends,
    next: u64,
    progress: Instant,
}

impl Reading {
    fn new(ends: Ends, first: u64) -> Self {
        Self { ends, next: first.max(ends.first), progress: Instant::now() }
    }

    /// The next page; `None` after the end.
    async fn next<L: Log>(&mut self, log: &L) -> Result<Option<Vec<LogEntry>>, BusError> {
        while self.next <= self.ends.last {
            let mut entries = log.read(ReadFrom::Sequence(self.next)).await?;
            // What came meanwhile is not part of it.
            entries.retain(|entry| entry.seq <= self.ends.last);
            if let Some(last) = entries.last() {
                (self.next, self.progress) = (last.seq + 1, Instant::now());
                return Ok(Some(entries));
            }
            if self.progress.elapsed() > LAG_WITHIN {
                return Err(BusError::Unavailable(format!(
                    "the log lacks message {} or later ones up to {}",
                    self.next, self.ends.last
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(None)
    }
}

/// The sequence at which the log began last: whatever is before it does not count.
pub(super) async fn floor<L: Log>(log: &L) -> Result<u64, BusError> {
    let begun = log.last_of(&[log.subjects().begin()]).await?;
    Ok(begun.first().map_or(0, |entry| entry.seq))
}

async fn last_claim<L: Log>(log: &L) -> Result<Option<(u64, Claim)>, BusError> {
    let claims = log.last_of(&[log.subjects().claim()]).await?;
    let Some(entry) = claims.first() else { return Ok(None) };
    match codec::decode(log.subjects(), entry).map_err(unreadable)? {
        LogMessage::Claim { claim, .. } => Ok(Some((entry.seq, claim))),
        _ => Ok(None),
    }
}

/// The last mark of the log.
pub(super) async fn last_mark<L: Log>(
    log: &L,
    ends: Ends,
    floor: u64,
) -> Result<Option<PositionMark>, BusError> {
    let mut last = ends.last;
    while last >= ends.first.max(floor).max(1) {
        let first = (last + 1).saturating_sub(LOOK_BACK).max(floor).max(ends.first);
        // Most often the last message has it.
        let first = if last == ends.last { last } else { first };
        let (mut reading, mut found) = (Reading::new(Ends { last, ..ends }, first), None);
        while let Some(entries) = reading.next(log).await? {
            for entry in &entries {
                found = codec::read_mark(entry).map_err(unreadable)?.or(found);
            }
        }
        if found.is_some() || first <= floor.max(ends.first) {
            return Ok(found);
        }
        last = first - 1;
    }
    Ok(None)
}

/// Where the latest round of each game is.
async fn latest<L: Log>(log: &L, floor: u64) -> Result<HashMap<GameId, LatestPlace>, BusError> {
    let subjects = log.subjects_of(&log.subjects().rounds()).await?;
    let mut latest = HashMap::with_capacity(subjects.len());
    for entry in log.last_of(&subjects).await?.iter().filter(|entry| entry.seq >= floor) {
        if let Some(message) = round_ending_with(log, entry).await? {
            let round = message.captured.round;
            let place = LatestPlace { age: round.age(), seq: entry.seq };
            latest.insert(round.game_id, place);
        }
    }
    Ok(latest)
}

/// The directory as it stands in the log.
pub(super) async fn directory<L: Log>(log: &L, floor: u64) -> Result<Vec<Game>, BusError> {
    let subjects = log.subjects_of(&log.subjects().games()).await?;
    let mut games = Vec::with_capacity(subjects.len());
    for entry in log.last_of(&subjects).await?.iter().filter(|entry| entry.seq >= floor) {
        let message = codec::decode(log.subjects(), entry).map_err(unreadable)?;
        if let LogMessage::Game(GameMessage::Row(game)) = message {
            games.push(game);
        }
    }
    games.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(games)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: codec::BadMessage) -> BusError {
    BusError::Unreadable(error.to_string())
}
