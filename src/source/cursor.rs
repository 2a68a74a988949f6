//! The cursor: what has been put on the stream, in terms of the database's transactions. Pure.
//!
//! * **C1** Every round of a transaction that `saved` sees is on the stream. `saved` moves only
//!   when all that its poll, or page, found has been published.
//! * **C2** A round is new when `saved` does not see its transaction and it is not in `ahead`.
//! * **C3** A payload may go out before the poll only when every transaction that ended before its
//!   own began is accounted for: then order holds without asking.
//! * **C4** `safe` is a snapshot whose WAL was flushed. After a crash of a server with
//!   `synchronous_commit=off`, later transaction ids, and round ids, are used again; so a new
//!   connection polls from `safe` and leaves out what was streamed since, by the row of the outbox,
//!   or, where only a payload has told of it, by round and moment.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{payload::Payload, snapshot::Snapshot};
use crate::stream::{
    hub::Position,
    round::{FinishedAt, Round, RoundId},
    transaction::{Finish, Xid},
};

/// Rounds remembered by moment, for a database that comes back with another history; those that the
/// next connection begins before are remembered all.
const LATELY_MAX: usize = if cfg!(test) { 4 } else { 100_000 };
/// Snapshots that wait for their WAL to be flushed; flushes come every 0.2 s, polls every 5 ms.
const UNFLUSHED_MAX: usize = 64;
/// More transactions than this between two polls are not looked at one by one.
const ENDED_MAX: u64 = 64;
/// The outbox confirms a payload at the next poll; contract section 9 gives it a second.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
/// Whoever forges more than this within a second has been found out anyway.
const CLAIMS_MAX: usize = 10_000;

/// A position in the write-ahead log, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) i64);

/// What a poll says of the database.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) snapshot: Snapshot,
    pub(crate) inserted: Lsn,
    pub(crate) flushed: Lsn,
}

/// How far a poll has come, once all that it found is on the stream.
#[derive(Debug)]
struct Reached {
    generation: u64,
    snapshot: Snapshot,
    position: Position,
}

/// What to do with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is on the stream already.
    Known,
    /// It may go out at once.
    Now,
    /// Something may be missing before it: poll.
    PollFirst,
}

/// The finish of a round as its own data tell it.
pub(super) type Moment = (RoundId, FinishedAt);

pub(super) fn moment(round: &Round) -> Moment {
    (round.round_id, round.finished_at)
}

/// A row of the outbox. Ids may be used again after a crash, but not at the same microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recorded {
    pub(crate) finish: Finish,
    /// When it was written, in microseconds since the epoch.
    pub(crate) at: i64,
}

/// A round on the stream.
#[derive(Clone, Copy, Debug)]
struct Streamed {
    /// The poll that first saw it.
    generation: u64,
    moment: Moment,
    /// The transaction that finished it; 0 where it is known by its own data alone.
    xid: Xid,
    /// When its row in the outbox was written; not known of a payload that no poll has confirmed.
    at: Option<i64>,
}

impl Streamed {
    fn finish(&self) -> Finish {
        (self.xid, self.moment.0)
    }

    fn row(&self) -> Option<Recorded> {
        self.at.map(|at| Recorded { finish: self.finish(), at })
    }
}

/// What is on the stream already, for a connection that begins further back.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Told by their rows: they need not even be read again.
    rows: HashSet<Recorded>,
    /// Told by their own data.
    moments: HashMap<RoundId, Vec<FinishedAt>>,
}

impl Given {
    /// Rounds that are told by their own data alone.
    pub(crate) fn by_moment(moments: HashSet<Moment>) -> Self {
        let mut given = Self::default();
        moments.into_iter().for_each(|moment| given.insert(moment));
        given
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.moments.values().map(Vec::len).sum::<usize>()
    }

    /// Whether what this row tells of is on the stream.
    pub(crate) fn has(&self, row: Recorded) -> bool {
        self.rows.contains(&row)
    }

    /// Whether the round is on the stream with this moment.
    pub(crate) fn has_moment(&self, moment: Moment) -> bool {
        let (round, finished_at) = moment;
        self.moments.get(&round).is_some_and(|moments| moments.contains(&finished_at))
    }

    /// Few rounds finish twice: their moments are looked through one by one.
    fn insert(&mut self, (round, finished_at): Moment) {
        let moments = self.moments.entry(round).or_default();
        if !moments.contains(&finished_at) {
            moments.push(finished_at);
        }
    }

    /// Whether a round of this id is on the stream, and no row known of it.
    pub(crate) fn has_round(&self, round: RoundId) -> bool {
        self.moments.contains_key(&round)
    }
}

impl FromIterator<Streamed> for Given {
    fn from_iter<T: IntoIterator<Item = Streamed>>(streamed: T) -> Self {
        let mut given = Self::default();
        for streamed in streamed {
            match streamed.row() {
                Some(row) => drop(given.rows.insert(row)),
                None => given.insert(streamed.moment),
            }
        }
        given
    }
}

#[derive(Debug)]
pub(crate) struct Cursor {
    saved: Snapshot,
    /// On the stream, but not seen by `saved`; with the time when a payload brought it.
    ahead: HashMap<Finish, Option<Instant>>,
    /// Payloads that were left to the poll, by when they came.
    claims: HashMap<Finish, Instant>,
    safe: Reached,
    /// Polls since, each with where the WAL ended.
    unflushed: VecDeque<(Lsn, Reached)>,
    /// Counts polls.
    generation: u64,
    /// The newest rounds on the stream.
    lately: VecDeque<Streamed>,
}

impl Cursor {
    pub(crate) fn new(start: Snapshot) -> Self {
        Self {
            safe: Reached { generation: 0, snapshot: start.clone(), position: Position(0) },
            saved: start,
            ahead: HashMap::new(),
            claims: HashMap::new(),
            unflushed: VecDeque::new(),
            generation: 0,
            lately: VecDeque::new(),
        }
    }

    /// Where the next poll begins.
    pub(crate) fn saved(&self) -> &Snapshot {
        &self.saved
    }

    /// Where the next connection begins.
    pub(crate) fn safe(&self) -> &Snapshot {
        &self.safe.snapshot
    }

    /// The last round of the stream that `safe` sees. A replay ends there: of what a later snapshot
    /// sees, a crash may give the transaction ids to others (C4), and those are yet to come.
    pub(crate) fn safe_position(&self) -> Position {
        self.safe.position
    }

    /// Notes that the stream stands here when the cursor begins.
    pub(crate) fn begins_at(&mut self, position: Position) {
        self.safe.position = position;
    }

    /// Whether the round is on the stream (C2).
    pub(crate) fn knows(&self, finish: Finish) -> bool {
        self.saved.sees(finish.0) || self.ahead.contains_key(&finish)
    }

    /// Whether a payload may go out before the next poll (C3).
    pub(crate) fn judge(&self, payload: &Payload) -> Verdict {
        if self.knows((payload.xid, payload.round_id)) {
            return Verdict::Known;
        }
        let delivered = |xid: &Xid| self.ahead.keys().any(|finish| finish.0 == *xid);
        let accounted = |ended: Vec<Xid>| ended.iter().all(delivered);
        match payload.snapshot.ended_since(&self.saved, ENDED_MAX).is_some_and(accounted) {
            true => Verdict::Now,
            false => Verdict::PollFirst,
        }
    }

    /// Notes that a payload was put on the stream.
    pub(crate) fn delivered_by_payload(&mut self, payload: &Payload, now: Instant) {
        self.ahead.insert((payload.xid, payload.round_id), Some(now));
        self.note((payload.round_id, payload.finished_at), payload.xid, None);
    }

    /// Notes that a payload was left to the poll, which is to confirm it.
    pub(crate) fn claimed(&mut self, payload: &Payload, now: Instant) {
        if self.claims.len() < CLAIMS_MAX {
            self.claims.entry((payload.xid, payload.round_id)).or_insert(now);
        }
    }

    /// Notes that a round which a poll found was put on the stream.
    pub(crate) fn delivered_by_poll(&mut self, row: Recorded, finished_at: FinishedAt) {
        self.ahead.insert(row.finish, None);
        self.note((row.finish.1, finished_at), row.finish.0, Some(row.at));
    }

    /// Notes what finished before this cursor began: no news after a failover.
    pub(crate) fn remember_older(&mut self, moments: impl IntoIterator<Item = Moment>) {
        // No poll of this cursor: a rewind looks at what it has seen itself.
        let older = |moment| Streamed { generation: 0, moment, xid: Xid(0), at: None };
        self.lately.extend(moments.into_iter().map(older));
        self.lately.drain(..self.lately.len().saturating_sub(LATELY_MAX));
    }

    /// Notes what was streamed before this cursor began.
    pub(crate) fn remember(&mut self, moment: Moment) {
        self.note(moment, Xid(0), None);
    }

    fn note(&mut self, moment: Moment, xid: Xid, at: Option<i64>) {
        self.lately.push_back(Streamed { generation: self.generation + 1, moment, xid, at });
    }

    /// When a payload brought this round, if one did and no poll has confirmed it yet.
    pub(crate) fn payload_time(&self, finish: Finish) -> Option<Instant> {
        self.ahead.get(&finish).copied().flatten()
    }

    /// Notes that a poll has met these rows: what payloads brought, or only claimed, is true. From now
    /// on it is known by its row: whatever becomes of the round, a new connection tells it by that.
    pub(crate) fn confirm(&mut self, rows: impl IntoIterator<Item = Recorded>) {
        let mut true_payloads = HashMap::new();
        for row in rows {
            self.claims.remove(&row.finish);
            if self.ahead.get_mut(&row.finish).and_then(Option::take).is_some() {
                true_payloads.insert(row.finish, row.at);
            }
        }
        // Of a transaction of many pages, all of it is looked through once and not on each page.
        if true_payloads.is_empty() {
            return;
        }
        let since = |streamed: &&mut Streamed| streamed.generation > self.generation;
        for streamed in self.lately.iter_mut().rev().take_while(since) {
            streamed.at = streamed.at.or_else(|| true_payloads.get(&streamed.finish()).copied());
        }
    }

    /// Moves `saved` on, once all that the poll found is on the stream and confirmed (C1). Returns
    /// payloads that nothing has confirmed within a second. `position`: where the stream stands.
    pub(crate) fn advance(&mut self, seen: Seen, position: Position, now: Instant) -> Vec<Finish> {
        let late = |at: Instant| now.duration_since(at) > CONFIRM_WITHIN;
        let claims = self.claims.extract_if(|_, at| late(*at)).map(|(finish, _)| finish);
        let mut unconfirmed: Vec<Finish> = claims.collect();
        // A transaction that is over and left no row of this round never will.
        let never = self.ahead.extract_if(|_, payload| payload.is_some_and(late));
        unconfirmed.extend(never.map(|(finish, _)| finish));
        self.reach(seen, position);
        unconfirmed
    }

    /// Moves `saved` on within a poll that is read page by page: all that it `seen`, of transactions
    /// before `end`, is on the stream. Not while younger ones are there too: a rewind to this place
    /// would bring those again. Says whether it has moved.
    pub(crate) fn advance_before(&mut self, end: Xid, seen: &Seen, position: Position) -> bool {
        let snapshot = seen.snapshot.before(end);
        let is_younger = |streamed: &Streamed| streamed.xid >= end || streamed.xid == Xid(0);
        let moves = !snapshot.is_before(&self.saved) && !self.since_safe().any(is_younger);
        if moves {
            self.reach(Seen { snapshot, ..*seen }, position);
        }
        moves
    }

    fn reach(&mut self, seen: Seen, position: Position) {
        self.generation += 1;
        self.ahead.retain(|finish, payload| payload.is_some() || !seen.snapshot.sees(finish.0));
        self.saved = seen.snapshot.clone();
        self.move_safe(seen, position);
    }

    fn move_safe(&mut self, seen: Seen, position: Position) {
        let Seen { snapshot, inserted, flushed } = seen;
        if self.unflushed.len() < UNFLUSHED_MAX {
            let generation = self.generation;
            self.unflushed.push_back((inserted, Reached { generation, snapshot, position }));
        }
        while let Some((_, reached)) = self.unflushed.pop_front_if(|(end, _)| *end <= flushed) {
            self.safe = reached;
        }
        self.forget();
    }

    /// Keeps to the bound, but for what a rewind leaves out: a catch-up may bring any number of
    /// rounds, and its link may break in it.
    fn forget(&mut self) {
        let is_safe = |streamed: &mut Streamed| streamed.generation <= self.safe.generation;
        while self.lately.len() > LATELY_MAX && self.lately.pop_front_if(is_safe).is_some() {}
    }

    /// Goes back to the last flushed snapshot, for a new connection; returns what was streamed
    /// since, to be left out (C4).
    pub(crate) fn rewind(&mut self) -> Given {
        self.saved = self.safe.snapshot.clone();
        self.ahead.clear();
        self.claims.clear();
        self.unflushed.clear();
        self.since_safe().copied().collect()
    }

    /// What was put on the stream since the last flushed snapshot, the newest first.
    fn since_safe(&self) -> impl Iterator<Item = &Streamed> {
        let since = |streamed: &&Streamed| streamed.generation > self.safe.generation;
        self.lately.iter().rev().take_while(since)
    }

    /// The newest row of the outbox that a crash cannot have taken back: where it is missing, though
    /// nothing so young has been trimmed, this is an older copy of the database.
    pub(crate) fn landmark(&self) -> Option<Recorded> {
        let is_safe = |streamed: &&Streamed| streamed.generation <= self.safe.generation;
        self.lately.iter().rev().filter(is_safe).find_map(Streamed::row)
    }

    /// All that is remembered.
    pub(crate) fn lately(&self) -> impl Iterator<Item = Moment> {
        self.lately.iter().map(|streamed| streamed.moment)
    }

    /// Begins anew on a database with another history; returns all that is remembered.
    pub(crate) fn start_over(&mut self, start: Snapshot) -> HashSet<Moment> {
        let lately = std::mem::take(&mut self.lately);
        let moments = lately.iter().map(|streamed| streamed.moment).collect();
        *self = Self { lately, ..Self::new(start) };
        self.lately.iter_mut().for_each(|streamed| streamed.generation = 0);
        moments
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
