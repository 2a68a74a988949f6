//! What the next leader reads of the log before it claims.

use std::{collections::HashMap, time::Instant};

use super::{
    BusError,
    codec::{self, Claim, GameMessage, LogMessage, PositionMark},
    log::Log,
    read::{Ends, LAG_WITHIN, LOOK_AGAIN, LogEntry, ReadFrom},
    terms::{Terms, lost},
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
    /// When the oldest message of those was written, in seconds since the epoch.
    pub(crate) oldest: Option<i64>,
    /// The last claim, and its sequence.
    pub(crate) claim: Option<(u64, Claim)>,
    /// The term of the last message; 0 if the log has to begin.
    pub(crate) term: u64,
    /// The poll of the first round behind the mark's base: the next leader repeats that poll.
    pub(crate) poll: Option<u64>,
}

impl Takeover {
    /// Reads the log.
    pub(crate) async fn read<L: Log>(log: &L) -> Result<Self, BusError> {
        let ends = log.ends().await?;
        let floor = floor(log, ends.last).await?;
        let mut takeover = Self { end: ends.last, ..Self::default() };
        (takeover.mark, takeover.term) = last_mark(log, ends, floor).await?;
        if let Some(mark) = takeover.mark.clone() {
            takeover.read_rounds(log, ends, floor, &mark).await?;
            takeover.read_latest(log, floor, ends.last).await?;
        }
        // One behind the end refuses this node's claim.
        let claim = last_claim(log, ends.last).await?.filter(|claim| claim.seq <= ends.last);
        // The claim that is accepted shows that this one is the last: so do the messages behind it. A
        // replica whose log was lost may have no mark.
        let is_followed = |claim: &LastClaim| claim.term == takeover.term;
        if !claim.as_ref().is_none_or(is_followed) {
            return Err(lost(ends.last));
        }
        takeover.claim = claim.map(|it| (it.seq, it.claim));
        Ok(takeover)
    }

    /// The rounds of the log since a time, for a database on another timeline: they are not new.
    pub(crate) async fn rounds_since<L: Log>(
        log: &L,
        unix_seconds: i64,
    ) -> Result<Vec<Captured>, BusError> {
        let ends = log.ends().await?;
        let floor = floor(log, ends.last).await?;
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

    /// The latest round of each game, and the directory.
    async fn read_latest<L: Log>(&mut self, log: &L, floor: u64, end: u64) -> Result<(), BusError> {
        let mut rest = log.subjects_of(&log.subjects().rounds()).await?;
        // In pages: the latest rounds of all games may have more bytes than the memory.
        while !rest.is_empty() {
            let (entries, left) = log.last_page(rest, end).await?;
            for entry in entries.iter().filter(|entry| entry.seq >= floor) {
                self.note_written(entry);
                if let Some(message) = round_ending_with(log, entry).await? {
                    let round = message.captured.round;
                    let place = LatestPlace { age: round.age(), seq: entry.seq };
                    self.latest.insert(round.game_id, place);
                }
            }
            rest = left;
        }
        let rows = directory_rows(log, floor, end).await?;
        rows.iter().for_each(|entry| self.note_written(entry));
        self.games = games_of(log, &rows)?;
        Ok(())
    }

    fn note_written(&mut self, entry: &LogEntry) {
        self.oldest = self.oldest.into_iter().chain(entry.written()).min();
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
        let (mut reading, mut last_mark) = (Reading::new(ends, first), None);
        while let Some(entries) = reading.next(log).await? {
            for entry in &entries {
                last_mark = codec::read_mark(entry).map_err(unreadable)?.or(last_mark);
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
        self.term = reading.terms.last();
        // The mark was read before, maybe from another replica.
        if last_mark.as_ref() == Some(mark) { Ok(()) } else { Err(lost(ends.last)) }
    }
}

/// Reads up to the end, though the replica that answers may lag.
struct Reading {
    ends: Ends,
    next: u64,
    progress: Instant,
    terms: Terms,
}

impl Reading {
    fn new(ends: Ends, first: u64) -> Self {
        let (progress, terms) = (Instant::now(), Terms::default());
        Self { ends, next: first.max(ends.first), progress, terms }
    }

    /// The next page; `None` after the end.
    async fn next<L: Log>(&mut self, log: &L) -> Result<Option<Vec<LogEntry>>, BusError> {
        while self.next <= self.ends.last {
            let mut entries = log.read(ReadFrom::Sequence(self.next)).await?;
            // What came meanwhile is not part of it.
            entries.retain(|entry| entry.seq <= self.ends.last);
            for entry in &entries {
                self.terms.follow(log.subjects(), entry)?;
            }
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
pub(super) async fn floor<L: Log>(log: &L, end: u64) -> Result<u64, BusError> {
    let begun = log.last_of(&[log.subjects().begin()], end).await?;
    Ok(begun.first().map_or(0, |entry| entry.seq))
}

/// A claim, where it stands, and its leader's term.
struct LastClaim {
    seq: u64,
    claim: Claim,
    term: u64,
}

async fn last_claim<L: Log>(log: &L, end: u64) -> Result<Option<LastClaim>, BusError> {
    let claims = log.last_of(&[log.subjects().claim()], end).await?;
    let Some(entry) = claims.first() else { return Ok(None) };
    match codec::decode(log.subjects(), entry).map_err(unreadable)? {
        LogMessage::Claim { claim, .. } => {
            let term = codec::term(entry).unwrap_or_default();
            Ok(Some(LastClaim { seq: entry.seq, claim, term }))
        }
        _ => Ok(None),
    }
}

/// The last mark of the log, and the term of the last message.
pub(super) async fn last_mark<L: Log>(
    log: &L,
    ends: Ends,
    floor: u64,
) -> Result<(Option<PositionMark>, u64), BusError> {
    let (mut last, mut term) = (ends.last, 0);
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
        if last == ends.last {
            term = reading.terms.last();
        }
        if found.is_some() || first <= floor.max(ends.first) {
            return Ok((found, term));
        }
        last = first - 1;
    }
    Ok((None, term))
}

/// The last message of each subject, if the log has not begun again since.
async fn last_since<L: Log>(
    log: &L,
    subjects: &[String],
    (floor, end): (u64, u64),
) -> Result<Vec<LogEntry>, BusError> {
    let mut entries = log.last_of(subjects, end).await?;
    entries.retain(|entry| entry.seq >= floor);
    Ok(entries)
}

async fn directory_rows<L: Log>(log: &L, floor: u64, end: u64) -> Result<Vec<LogEntry>, BusError> {
    let subjects = log.subjects_of(&log.subjects().games()).await?;
    last_since(log, &subjects, (floor, end)).await
}

/// The directory as it stands in the log.
pub(super) async fn directory<L: Log>(
    log: &L,
    floor: u64,
    end: u64,
) -> Result<Vec<Game>, BusError> {
    games_of(log, &directory_rows(log, floor, end).await?)
}

fn games_of<L: Log>(log: &L, rows: &[LogEntry]) -> Result<Vec<Game>, BusError> {
    let mut games = Vec::with_capacity(rows.len());
    for entry in rows {
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
