//! Resume points: which rounds follow the one that a client names.

use super::{Entry, GameId, GameRounds, Position, RecentRounds, RoundId, Topic};
use crate::stream::transaction::{Finish, Xid};

/// A resume point that the ring buffers answer: exactly, or with repeats but without loss.
#[derive(Clone, Debug)]
pub(in crate::stream::hub) enum ResumePoint {
    /// Delivered live by this process alone: later rounds have later positions.
    Live(Position),
    /// Delivered live, by another node too. Rounds that may be later there: those with a later
    /// position here, and those that may have [overtaken](Overtaking) the point here.
    Shared(Overtaking),
    /// Delivered by an earlier process: rounds that may have committed later have `xid >= before`.
    Transaction { before: Xid, named: Position },
    /// Older than the outbox, which is complete: all of the game's outbox rows are later.
    Table { named: Position },
}

/// Rounds that are before the resume point here, and may be after it on another node.
///
/// * Transactions that had ended when the point was recorded are before it on every node.
/// * A poll publishes the rounds that it finds in the order of their transactions. So a round of a
///   younger transaction than the point's is later on a node whose poll finds both.
/// * A round of an earlier poll than the point's committed before the point. On every node the poll
///   that finds the point, or an earlier one, finds that round.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream::hub) struct Overtaking {
    named: Position,
    xid: Xid,
    before: Xid,
    /// The poll that found the point.
    poll: u64,
}

impl Overtaking {
    fn of(point: &Entry) -> Self {
        let &Entry { position: named, xid, before, poll, .. } = point;
        Self { named, xid, before, poll }
    }

    /// Whether another node may publish a round of this transaction, found here by this poll, after
    /// the point.
    fn may_overtake(&self, xid: Xid, poll: u64) -> bool {
        xid >= self.before && (xid > self.xid || poll >= self.poll)
    }

    fn includes(&self, entry: &Entry) -> bool {
        entry.position > self.named
            || (entry.position < self.named && self.may_overtake(entry.xid, entry.poll))
    }
}

/// Rounds of the ring buffers that a stream still has to get: the wanted ones after a position.
#[derive(Clone, Debug)]
pub struct Later {
    pub(in crate::stream::hub) after: Position,
    pub(in crate::stream::hub) wanted: Wanted,
}

/// Which rounds. All rounds that are published after the opening of a stream are wanted.
#[derive(Clone, Debug)]
pub(in crate::stream::hub) enum Wanted {
    /// Every one.
    All,
    /// Those that may be later than the resume point.
    Point(ResumePoint),
    /// Those that the database's part of a replay does not have: published after `seen`, or of the
    /// transaction `from` or a later one; not the named round.
    AfterStored { from: Xid, seen: Position, known: Vec<Finish> },
}

impl Later {
    /// Every round after this position.
    pub fn all_after(position: Position) -> Self {
        Self { after: position, wanted: Wanted::All }
    }

    /// The position up to which the stream has everything.
    pub fn position(&self) -> Position {
        self.after
    }

    /// The rounds after a later position.
    pub fn advance(&mut self, position: Position) {
        self.after = self.after.max(position);
    }
}

impl Wanted {
    pub(super) fn includes(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Point(point) => point.includes(entry),
            Self::AfterStored { from, seen, known } => {
                (entry.position > *seen || entry.xid >= *from) && !known.contains(&entry.finish())
            }
        }
    }
}

impl ResumePoint {
    /// The rounds that may be later than this point.
    pub(super) fn later(self) -> Later {
        match self {
            Self::Live(position) => Later::all_after(position),
            other => Later { after: Position(0), wanted: Wanted::Point(other) },
        }
    }

    fn includes(&self, entry: &Entry) -> bool {
        match self {
            Self::Live(position) => entry.position > *position,
            Self::Shared(point) => point.includes(entry),
            Self::Table { named } => entry.position != *named,
            Self::Transaction { before, named } => {
                entry.position > *named || (entry.xid >= *before && entry.position != *named)
            }
        }
    }
}

impl RecentRounds {
    /// How to find every round of the topic after the named one; `None` if the ring buffers lack any.
    pub(in crate::stream::hub) fn point(
        &self,
        topic: &Topic,
        named: &RoundId,
    ) -> Option<ResumePoint> {
        let (game, position) = self.points.get(named)?;
        let position = *position;
        let point = self.games.get(game)?.buffer.find(position)?;
        let is_live = position >= self.first_live;
        if is_live && position > self.shared_until && self.lease.holds() {
            self.reaches(topic, position).then_some(ResumePoint::Live(position))
        } else if is_live && point.before > Xid(0) {
            self.point_by_order(topic, Overtaking::of(point))
        } else if point.before > Xid(0) {
            self.point_by_transaction(topic, point)
        } else {
            self.point_by_table(topic, game, position)
        }
    }

    /// Every round that another node may have delivered after the point (I5).
    fn point_by_order(&self, topic: &Topic, point: Overtaking) -> Option<ResumePoint> {
        let complete = |(_, game): (&GameId, &GameRounds)| {
            let evicted = game.buffer.evicted();
            game.buffer.reaches(point.named)
                && !evicted.is_some_and(|(xid, poll)| point.may_overtake(xid, poll))
        };
        let complete = point.before > self.trimmed && self.games_ever_of(topic).all(complete);
        complete.then_some(ResumePoint::Shared(point))
    }

    /// Every round whose transaction may have committed after the point's (I5).
    fn point_by_transaction(&self, topic: &Topic, point: &Entry) -> Option<ResumePoint> {
        let before = point.before;
        let preloaded = Position(self.first_live.0 - 1);
        let complete = |(_, game): (&GameId, &GameRounds)| {
            game.buffer.reaches(preloaded) && game.buffer.reaches_xid(before)
        };
        let complete = before > self.trimmed && self.games_ever_of(topic).all(complete);
        complete.then_some(ResumePoint::Transaction { before, named: point.position })
    }

    /// The point was never in the outbox, and retention has deleted no row: all of the game's outbox
    /// rows are later. The order of other games' rounds is unknown.
    fn point_by_table(&self, topic: &Topic, game: &GameId, named: Position) -> Option<ResumePoint> {
        let alone =
            self.games_ever_of(topic).all(|(id, rounds)| id == game && rounds.buffer.is_complete());
        (alone && self.trimmed == Xid(0)).then_some(ResumePoint::Table { named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_may_come_later_on_another_node_unless_a_rule_of_order_puts_it_first() {
        let point = Overtaking { named: Position(9), xid: Xid(20), before: Xid(10), poll: 5 };
        assert!(point.may_overtake(Xid(10), 5), "it may have committed after the point");
        assert!(!point.may_overtake(Xid(10), 4), "a poll found it before the point committed");
        assert!(point.may_overtake(Xid(21), 4), "one poll that finds both has it later");
        assert!(!point.may_overtake(Xid(9), 5), "it had ended when the point was recorded");
    }
}
