//! The cursor: how far the outbox has been published, in terms of the database's transactions. Pure.
//!
//! * **C1** Every round of a transaction that `saved` sees has been published. `saved` moves only
//!   when all rows of its poll, or page, have been published.
//! * **C2** A poll returns rows of transactions that `saved` does not see: none of them has been
//!   published on this connection.
//! * **C3** `durable` is a snapshot whose WAL has been flushed. After a crash of a server with
//!   `synchronous_commit=off`, later transaction ids, and round ids, are used again. So a new
//!   connection polls from `durable` and skips what was published since, by its outbox row.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::stream::{
    hub::Position,
    round::{FinishedAt, Round, RoundId},
    snapshot::Snapshot,
    transaction::{Finish, Xid},
};

/// Published rounds that are remembered for a database that comes back on another timeline. Those
/// published since `durable` are remembered beyond this bound.
const PUBLISHED_MAX: usize = if cfg!(test) { 4 } else { 100_000 };
/// Snapshots that wait for their WAL to be flushed: flushes come every 0.2 s, polls every 5 ms.
const UNFLUSHED_MAX: usize = 64;

/// A position in the write-ahead log, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) i64);

/// The state of the database when a poll ran.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) snapshot: Snapshot,
    pub(crate) inserted: Lsn,
    pub(crate) flushed: Lsn,
}

/// How far a poll has come, once all its rows are published.
#[derive(Debug)]
struct Reached {
    step: u64,
    snapshot: Snapshot,
    position: Position,
}

/// Names a finish on any timeline. Ids are unique over all attached tables, so it needs no table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoundKey {
    pub(crate) round: RoundId,
    pub(crate) finished_at: FinishedAt,
}

pub(super) fn round_key(round: &Round) -> RoundKey {
    RoundKey { round: round.round_id.clone(), finished_at: round.finished_at }
}

/// A row of the outbox. Ids may be used again after a crash, but not at the same microsecond.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OutboxKey {
    pub(crate) finish: Finish,
    /// When it was written, in microseconds since the epoch.
    pub(crate) at: i64,
}

/// A published round.
#[derive(Clone, Debug)]
struct Published {
    /// The step of the cursor in which it was published.
    step: u64,
    /// Unknown for a skipped round.
    key: Option<RoundKey>,
    /// Its outbox row; unknown for rounds read by `finished_at`.
    row: Option<OutboxKey>,
}

/// Rounds that were published before, for a connection that begins further back.
#[derive(Debug, Default)]
pub(crate) struct AlreadyPublished {
    /// Known by their outbox rows: they need not be read again.
    rows: HashSet<OutboxKey>,
    /// Known by id and moment.
    moments: HashMap<RoundId, Vec<FinishedAt>>,
}

impl AlreadyPublished {
    /// Rounds that are known by id and moment alone.
    pub(crate) fn by_key(keys: HashSet<RoundKey>) -> Self {
        let mut published = Self::default();
        keys.into_iter().for_each(|key| published.insert(key));
        published
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.moments.values().map(Vec::len).sum::<usize>()
    }

    /// Whether this row has been published.
    pub(crate) fn has_row(&self, row: &OutboxKey) -> bool {
        self.rows.contains(row)
    }

    /// Whether the round has been published with this moment.
    pub(crate) fn has_key(&self, key: &RoundKey) -> bool {
        self.moments.get(&key.round).is_some_and(|moments| moments.contains(&key.finished_at))
    }

    /// Whether a round of this id has been published and its row is unknown.
    pub(crate) fn has_round(&self, round: &RoundId) -> bool {
        self.moments.contains_key(round)
    }

    /// Few rounds finish twice: a list of moments is short.
    fn insert(&mut self, RoundKey { round, finished_at }: RoundKey) {
        let moments = self.moments.entry(round).or_default();
        if !moments.contains(&finished_at) {
            moments.push(finished_at);
        }
    }
}

impl FromIterator<Published> for AlreadyPublished {
    fn from_iter<T: IntoIterator<Item = Published>>(rounds: T) -> Self {
        let mut published = Self::default();
        for round in rounds {
            match round.row {
                Some(row) => drop(published.rows.insert(row)),
                None => round.key.into_iter().for_each(|key| published.insert(key)),
            }
        }
        published
    }
}

#[derive(Debug)]
pub(crate) struct Cursor {
    saved: Snapshot,
    durable: Reached,
    /// Later polls, each with the end of the WAL at its time.
    unflushed: VecDeque<(Lsn, Reached)>,
    /// Counts the moves of `saved`.
    step: u64,
    /// Counts polls that were read to their end.
    polls: u64,
    /// The newest published rounds.
    published: VecDeque<Published>,
}

impl Cursor {
    pub(crate) fn new(start: Snapshot) -> Self {
        Self {
            durable: Reached { step: 0, snapshot: start.clone(), position: Position(0) },
            saved: start,
            unflushed: VecDeque::new(),
            step: 0,
            polls: 0,
            published: VecDeque::new(),
        }
    }

    /// The snapshot from which the next poll reads.
    pub(crate) fn saved(&self) -> &Snapshot {
        &self.saved
    }

    /// The snapshot from which the next connection reads.
    pub(crate) fn durable(&self) -> &Snapshot {
        &self.durable.snapshot
    }

    /// The last published round that `durable` sees. A replay from the outbox ends there: a crash
    /// may give the transaction ids that only a later snapshot sees to other rounds (C3).
    pub(crate) fn durable_position(&self) -> Position {
        self.durable.position
    }

    /// The number of the poll that is being read. A poll that broke off and the one that repeats it
    /// share their number: rounds of both may have committed in either order.
    pub(crate) fn poll(&self) -> u64 {
        self.polls + 1
    }

    /// Records the stream's position at the start of the cursor.
    pub(crate) fn begins_at(&mut self, position: Position) {
        self.durable.position = position;
    }

    /// Records a round of the outbox that no crash can take back, of another process.
    pub(crate) fn remember_durable(&mut self, row: OutboxKey, finished_at: FinishedAt) {
        let round = row.finish.round.clone();
        let key = Some(RoundKey { round, finished_at });
        self.published.push_back(Published { step: 0, key, row: Some(row) });
    }

    /// Records that a round of the outbox was published.
    pub(crate) fn mark_published(&mut self, row: OutboxKey, finished_at: FinishedAt) {
        let round = row.finish.round.clone();
        self.push(Some(row), Some(RoundKey { round, finished_at }));
    }

    /// Records that the round of an outbox row was skipped: if it is read again, it stays skipped.
    pub(crate) fn skip(&mut self, row: OutboxKey) {
        self.push(Some(row), None);
    }

    /// Records that a round was published of which no outbox row is known.
    pub(crate) fn mark_published_by_key(&mut self, key: RoundKey) {
        self.push(None, Some(key));
    }

    fn push(&mut self, row: Option<OutboxKey>, key: Option<RoundKey>) {
        self.published.push_back(Published { step: self.step + 1, key, row });
    }

    /// Records rounds that finished before this cursor began: after a failover they are not new.
    pub(crate) fn remember_older(&mut self, keys: impl IntoIterator<Item = RoundKey>) {
        // Step 0: no rewind repeats them.
        let older = |key| Published { step: 0, key: Some(key), row: None };
        self.published.extend(keys.into_iter().map(older));
        self.published.drain(..self.published.len().saturating_sub(PUBLISHED_MAX));
    }

    /// Moves `saved` on after all rows of a poll were published (C1). `position`: the last one's.
    pub(crate) fn advance(&mut self, seen: Seen, position: Position) {
        self.polls += 1;
        self.reach(seen, position);
    }

    /// Moves `saved` on within a poll that is read in pages: all rows of transactions before `end`
    /// are published. Not while younger ones are published too: a rewind to this place would repeat
    /// those. Returns whether it moved.
    pub(crate) fn advance_before(&mut self, end: Xid, seen: &Seen, position: Position) -> bool {
        let snapshot = seen.snapshot.before(end);
        let is_younger =
            |round: &Published| round.row.as_ref().is_none_or(|row| row.finish.xid >= end);
        let moves = !snapshot.is_before(&self.saved) && !self.since_durable().any(is_younger);
        if moves {
            self.reach(Seen { snapshot, ..*seen }, position);
        }
        moves
    }

    fn reach(&mut self, seen: Seen, position: Position) {
        let Seen { snapshot, inserted, flushed } = seen;
        self.step += 1;
        self.saved = snapshot.clone();
        if self.unflushed.len() < UNFLUSHED_MAX {
            let reached = Reached { step: self.step, snapshot, position };
            self.unflushed.push_back((inserted, reached));
        }
        while let Some((_, reached)) = self.unflushed.pop_front_if(|(end, _)| *end <= flushed) {
            self.durable = reached;
        }
        self.forget();
    }

    /// Keeps to the bound, except for rounds that a rewind must skip: a catch-up may publish any
    /// number of rounds before its connection breaks.
    fn forget(&mut self) {
        let is_durable = |round: &mut Published| round.step <= self.durable.step;
        while self.published.len() > PUBLISHED_MAX
            && self.published.pop_front_if(is_durable).is_some()
        {}
    }

    /// Goes back to the last flushed snapshot for a new connection; returns what was published
    /// since, to be skipped (C3).
    pub(crate) fn rewind(&mut self) -> AlreadyPublished {
        self.saved = self.durable.snapshot.clone();
        self.unflushed.clear();
        self.since_durable().cloned().collect()
    }

    /// The rounds published since the last flushed snapshot, the newest first.
    fn since_durable(&self) -> impl Iterator<Item = &Published> {
        let since = |round: &&Published| round.step > self.durable.step;
        self.published.iter().rev().take_while(since)
    }

    /// The newest outbox row that no crash can take back. If it is missing, though nothing so young
    /// has been trimmed, the database is an older copy.
    pub(crate) fn durable_row(&self) -> Option<OutboxKey> {
        let is_durable = |round: &&Published| round.step <= self.durable.step;
        self.published.iter().rev().filter(is_durable).find_map(|round| round.row.clone())
    }

    /// All remembered rounds.
    pub(crate) fn round_keys(&self) -> impl Iterator<Item = &RoundKey> {
        self.published.iter().filter_map(|round| round.key.as_ref())
    }

    /// Starts over on another timeline; returns all remembered rounds.
    pub(crate) fn start_over(&mut self, start: Snapshot) -> HashSet<RoundKey> {
        let (published, polls) = (std::mem::take(&mut self.published), self.polls);
        let keys = published.iter().filter_map(|round| round.key.clone()).collect();
        *self = Self { published, polls, ..Self::new(start) };
        self.published.iter_mut().for_each(|round| round.step = 0);
        keys
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
