//! A model of the database and of the nodes that read it, for the answers to resumes.

use crate::stream::transaction::{Finish, Xid};
use std::collections::BTreeMap;

use super::*;

/// All but one have a round from before the outbox was created.
pub(super) const GAMES: i64 = 4;

/// A transaction that has not ended.
#[derive(Debug)]
struct Open {
    xid: Xid,
    began_after: usize,
    rounds: Vec<Captured>,
}

/// A committed round.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) captured: Captured,
    /// How many rounds had been committed when its transaction began.
    pub(super) began_after: usize,
}

impl Row {
    pub(super) fn finish(&self) -> Finish {
        self.captured.finish()
    }
}

/// PostgreSQL, as far as resumes depend on it.
#[derive(Debug, Default)]
pub(super) struct Database {
    ids: i64,
    xids: u64,
    open: BTreeMap<usize, Open>,
    /// In the order of commits.
    pub(super) committed: Vec<Row>,
    trimmed: Xid,
}

impl Database {
    /// With a round of each game but one, from before the outbox was created.
    pub(super) fn new() -> Self {
        let mut database = Self { ids: GAMES, ..Self::default() };
        let old = |game| Row { captured: captured(game, game, 0, 0), began_after: 0 };
        database.committed = (1..GAMES).map(old).collect();
        database
    }

    pub(super) fn finish(&mut self, writer: usize, game: i64, late: i64) {
        let began_after = self.committed.len();
        self.ids += 1;
        self.open.entry(writer).or_insert_with(|| {
            self.xids += 1;
            Open { xid: Xid(self.xids), began_after, rounds: Vec::new() }
        });
        let before = self.oldest_running();
        let Some(open) = self.open.get_mut(&writer) else { return };
        let mut captured = captured(self.ids, game, open.xid.0, before.0);
        let finished_at = (self.ids + late).max(1) * 1_000_000;
        captured.round.finished_at = FinishedAt::from_micros(finished_at).expect("in range");
        open.rounds.push(captured);
    }

    pub(super) fn commit(&mut self, writer: usize) {
        let Some(Open { began_after, rounds, .. }) = self.open.remove(&writer) else { return };
        let row = |captured| Row { captured, began_after };
        self.committed.extend(rounds.into_iter().map(row));
    }

    pub(super) fn roll_back(&mut self, writer: usize) {
        self.open.remove(&writer);
    }

    fn oldest_running(&self) -> Xid {
        let running = self.open.values().map(|open| open.xid);
        running.min().unwrap_or(Xid(self.xids + 1))
    }

    /// The outbox rows of the first `committed` commits, in the order of transactions.
    fn outbox(&self, committed: usize) -> Vec<&Row> {
        let kept = |row: &&Row| row.captured.xid > self.trimmed;
        let mut rows: Vec<_> = self.committed[..committed].iter().filter(kept).collect();
        rows.sort_by_key(|row| row.finish());
        rows
    }

    /// As `sql/resume_points.sql`.
    fn resume_point(&self, named: &RoundId) -> Option<Xid> {
        let outbox = self.outbox(self.committed.len());
        let row = outbox.into_iter().find(|row| row.captured.round.round_id == *named)?;
        Some(row.captured.before).filter(|before| *before > self.trimmed)
    }

    /// Deletes the oldest outbox rows, unless a process has yet to read one of their transactions or
    /// it is still open.
    pub(super) fn trim(&mut self, rows: usize, read: usize) {
        let oldest_running = self.oldest_running();
        let unread = self.committed[read..].iter().map(|row| row.captured.xid).min();
        let outbox = self.outbox(read);
        let last = outbox.iter().take(rows).map(|row| row.captured.xid).next_back();
        let ended = |xid: &Xid| *xid < oldest_running && unread.is_none_or(|unread| *xid < unread);
        self.trimmed = last.filter(ended).unwrap_or(self.trimmed);
    }
}

/// How a process stands to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Alone,
    Shared,
    /// It has lost its connection, and nobody can tell it of the others.
    Lapsed,
}

/// A process of the server.
pub(super) struct Node {
    pub(super) hub: Hub,
    publisher: Publisher,
    /// How many commits it has read, and how many of them are durable.
    pub(super) read: usize,
    durable: usize,
    polls: u64,
    /// The rounds it has published, in order.
    stream: Vec<Row>,
}

impl Node {
    /// Loads the rounds that `sql/recent.sql` and `sql/latest_by_game.sql` return.
    pub(super) fn start(
        database: &Database,
        history: usize,
        rows_read: usize,
        standing: Standing,
    ) -> Self {
        let (hub, publisher) = hub(history);
        publisher.share(standing == Standing::Shared);
        if standing == Standing::Lapsed {
            publisher.answer_exactly_until(Instant::now());
        }
        let read = database.committed.len();
        let mut newest = database.outbox(read);
        newest.drain(..newest.len().saturating_sub(rows_read));
        let floor =
            newest.first().filter(|_| newest.len() == rows_read).map(|row| row.captured.xid);
        let place = |(index, row): (usize, &&Row)| {
            let game = &row.captured.round.game_id;
            newest[index..].iter().filter(|later| later.captured.round.game_id == *game).count()
        };
        let recent = newest.iter().enumerate().filter(|row| place((row.0, row.1)) <= history);
        let recent: Vec<_> = recent.map(|(_, row)| row.captured.clone()).collect();
        let of = |game| move |round: &&Round| round.game_id == GameId::number(game);
        let table = || database.committed.iter().map(|row| &row.captured.round);
        let latest = (0..GAMES).filter_map(|game| table().filter(of(game)).max_by_key(|r| r.age()));
        let trimmed = database.trimmed.max(floor.unwrap_or_default());
        publisher.preload(recent, latest.cloned().collect(), trimmed);
        let node = Self { hub, publisher, read, durable: read, polls: 0, stream: Vec::new() };
        node.set_durable_position();
        node
    }

    pub(super) fn poll(&mut self, database: &Database, durable: bool) {
        let mut rows = database.committed[self.read..].to_vec();
        rows.sort_by_key(Row::finish);
        self.polls += 1;
        let found = |row: &Row| Captured { poll: self.polls, ..row.captured.clone() };
        self.publisher.publish(rows.iter().map(found).collect());
        self.stream.extend(rows);
        self.read = database.committed.len();
        if durable {
            self.durable = self.read;
            self.set_durable_position();
        }
    }

    fn set_durable_position(&self) {
        let position = self.publisher.position();
        self.publisher
            .set_durable_position(DurablePosition { position, ..DurablePosition::default() });
    }

    /// The answer of `Replays` if the ring buffers lack the resume point.
    fn replay(&self, database: &Database, topic: &Topic, named: &RoundId) -> Option<Replay> {
        let from = database.resume_point(named)?;
        let later = |row: &&Row| row.captured.xid >= from && topic.matches(&row.captured.round);
        let page = database.outbox(self.durable);
        let page = page.into_iter().filter(later);
        let (known, rounds): (Vec<_>, Vec<_>) = page.partition(|row| row.finish().round == *named);
        Some(Replay {
            from,
            seen: self.hub.durable_position().position,
            rounds: stored(rounds.iter().map(|row| &row.captured)),
            known: known.iter().map(|row| row.finish()).collect(),
        })
    }

    /// The rounds after the named one in the plain list of published rounds; `None` if it is not in
    /// the list.
    pub(super) fn later(&self, topic: &Topic, named: &RoundId) -> Option<Vec<i64>> {
        let at = self.stream.iter().position(|row| row.finish().round == *named)?;
        let later = self.stream[at + 1..].iter().map(|row| &row.captured.round);
        let later = later.filter(|round| topic.matches(round));
        Some(later.map(|round| round.round_id.columns().0).collect())
    }
}

/// How a resume was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AnswerKind {
    Live,
    Shared,
    Transaction,
    Table,
    Replayed,
    Gap,
}

/// The answer of a node to a resume.
pub(super) enum Answer {
    Resumed(AnswerKind, Vec<i64>, Subscription),
    Unknown,
    /// The ring buffers have evicted rounds that follow the page: read another page.
    Evicted,
}

impl Node {
    pub(super) fn answer(&self, database: &Database, topic: &Topic, named: &RoundId) -> Answer {
        let point = self.hub.recent().point(topic, named).map(|point| format!("{point:?}"));
        let kind = |point: String| match point.split(['(', ' ']).next() {
            Some("Live") => AnswerKind::Live,
            Some("Shared") => AnswerKind::Shared,
            Some("Transaction") => AnswerKind::Transaction,
            _ => AnswerKind::Table,
        };
        let (kind, start) = match point.map(kind) {
            Some(kind) => (kind, Start::After(named.clone())),
            None => match self.replay(database, topic, named) {
                Some(replay) => (AnswerKind::Replayed, Start::Replayed(replay)),
                None => return Answer::Unknown,
            },
        };
        match self.hub.subscribe(topic, start, usize::MAX) {
            Some((Opening::Resumed(resumed), subscription)) => {
                Answer::Resumed(kind, resumed_ids(&resumed), subscription)
            }
            _ => Answer::Evicted,
        }
    }
}
