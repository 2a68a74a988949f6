//! Resume points: which rounds came after the one that a client names.

use super::{Entry, Frame, GameId, GameMemory, Memory, Position, RoundId, Topic};
use crate::stream::transaction::Xid;

/// A resume point that memory can answer exactly, or with repeats but no loss.
#[derive(Debug)]
pub(in crate::stream::hub) enum Point {
    /// Delivered live by this process alone: what comes later has a later position.
    Live(Position),
    /// Delivered live, by another node too: that may have delivered later what has a later position
    /// here, and what may have [overtaken](Overtaking) the point.
    Shared(Overtaking),
    /// Of an earlier process: what may have committed later has `xid >= before`.
    Transaction { before: Xid, named: Position },
    /// Older than the outbox, of which nothing is gone: all that it has of this game is later.
    Table { named: Position },
}

/// Rounds that come before another one here, and may come after it on another node.
///
/// * Transactions that had ended when the point was recorded come first everywhere.
/// * A poll publishes the rounds that it finds in the order of their transactions. So a round of a
///   younger transaction than the point's comes later on a node whose poll finds both.
/// * A round of an earlier poll than the point's committed before the point: any poll that sees the
///   point sees that round as well, or an earlier one did.
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
        let Entry { position: named, xid, before, poll, .. } = *point;
        Self { named, xid, before, poll }
    }

    /// Whether another node may publish a round of this transaction, found here by this poll, after
    /// the point.
    fn takes(&self, xid: Xid, poll: u64) -> bool {
        xid >= self.before && (xid > self.xid || poll >= self.poll)
    }

    fn includes(&self, entry: &Entry) -> bool {
        entry.position > self.named
            || (entry.position < self.named && self.takes(entry.xid, entry.poll))
    }
}

impl Memory {
    pub(super) fn after(&self, topic: &Topic, named: RoundId, most: usize) -> Option<Vec<Frame>> {
        let placed = match self.point(topic, named)? {
            Point::Live(position) => self.collect(topic, position, most, |_| true),
            Point::Shared(point) => {
                self.collect(topic, Position(0), most, |entry| point.includes(entry))
            }
            Point::Table { named } => {
                self.collect(topic, Position(0), most, |entry| entry.position != named)
            }
            Point::Transaction { before, named } => {
                self.collect(topic, Position(0), most, |entry| {
                    entry.position > named || (entry.xid >= before && entry.position != named)
                })
            }
        };
        Some(placed.into_iter().map(|placed| placed.frame).collect())
    }

    /// How every round of the topic after the named one is found; `None` when memory cannot tell.
    pub(in crate::stream::hub) fn point(&self, topic: &Topic, named: RoundId) -> Option<Point> {
        let (game, position) = *self.points.get(&named)?;
        let point = self.games.get(&game)?.recent.find(position)?;
        if position >= self.first_live && position > self.shared_until {
            self.reaches(topic, position).then_some(Point::Live(position))
        } else if position >= self.first_live && point.before > Xid(0) {
            self.point_by_order(topic, Overtaking::of(point))
        } else if point.before > Xid(0) {
            self.point_by_transaction(topic, point)
        } else {
            self.point_by_table(topic, game, position)
        }
    }

    /// Every round that another node may have delivered after the point (I5).
    fn point_by_order(&self, topic: &Topic, point: Overtaking) -> Option<Point> {
        let whole = |(_, game): (GameId, &GameMemory)| {
            let gone = game.recent.evicted();
            game.recent.reaches(point.named)
                && !gone.is_some_and(|(xid, poll)| point.takes(xid, poll))
        };
        let whole = point.before > self.trimmed && self.games_ever_of(topic).all(whole);
        whole.then_some(Point::Shared(point))
    }

    /// Every round whose transaction may have committed after that of the point (I5).
    fn point_by_transaction(&self, topic: &Topic, point: &Entry) -> Option<Point> {
        let before = point.before;
        let preloaded = Position(self.first_live.0 - 1);
        let whole = |(_, game): (GameId, &GameMemory)| {
            game.recent.reaches(preloaded) && game.recent.reaches_xid(before)
        };
        let whole = before > self.trimmed && self.games_ever_of(topic).all(whole);
        whole.then_some(Point::Transaction { before, named: point.position })
    }

    /// The point was never in the outbox, and nothing has been trimmed from that: all that it holds
    /// of the game came later. Of other games nothing is known.
    fn point_by_table(&self, topic: &Topic, game: GameId, named: Position) -> Option<Point> {
        let alone =
            self.games_ever_of(topic).all(|(id, memory)| id == game && memory.recent.is_whole());
        (alone && self.trimmed == Xid(0)).then_some(Point::Table { named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_may_come_later_on_another_node_unless_a_rule_of_order_puts_it_first() {
        let point = Overtaking { named: Position(9), xid: Xid(20), before: Xid(10), poll: 5 };
        assert!(point.takes(Xid(10), 5), "it may have committed after the point");
        assert!(!point.takes(Xid(10), 4), "a poll found it before the point committed");
        assert!(point.takes(Xid(21), 4), "one poll that finds both has it later");
        assert!(!point.takes(Xid(9), 5), "it had ended when the point was recorded");
    }
}
