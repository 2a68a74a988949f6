//! Resume points: which rounds came after the one that a client names.

use std::time::Instant;

use super::{Entry, Frame, GameId, GameMemory, Memory, Position, RoundId, Topic};
use crate::stream::{hub::OVERTAKEN_WITHIN, transaction::Xid};

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
/// * Transactions that were over when the point was recorded come first everywhere.
/// * A look at the database delivers what it finds in the order of the transactions: of a younger
///   transaction than the point's comes later where one look has found both.
/// * What was seen to be committed in a look that did not see the point committed first: a look that sees
///   the point sees that as well. A payload, though, may arrive before the look; it goes out only if the
///   node has looked lately, hence [`OVERTAKEN_WITHIN`].
#[derive(Clone, Copy, Debug)]
pub(in crate::stream::hub) struct Overtaking {
    named: Position,
    xid: Xid,
    before: Xid,
    /// What was published by then was over too long before the point committed.
    since: Option<Instant>,
}

impl Overtaking {
    fn of(point: &Entry) -> Self {
        let Entry { position: named, xid, before, looked, .. } = *point;
        Self { named, xid, before, since: looked.checked_sub(OVERTAKEN_WITHIN) }
    }

    /// Whether another node may deliver a round of this transaction, published here then, after the
    /// point.
    fn takes(&self, xid: Xid, published: Instant) -> bool {
        let lately = self.since.is_none_or(|since| published >= since);
        xid >= self.before && (xid > self.xid || lately)
    }

    fn includes(&self, entry: &Entry) -> bool {
        entry.position > self.named
            || (entry.position < self.named && self.takes(entry.xid, entry.published))
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
                && !gone.is_some_and(|(xid, published)| point.takes(xid, published))
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_may_come_later_on_another_node_is_what_no_rule_of_order_puts_first() {
        let looked = Instant::now() + OVERTAKEN_WITHIN * 2;
        let (named, xid, before) = (Position(9), Xid(20), Xid(10));
        let since = looked.checked_sub(OVERTAKEN_WITHIN);
        let point = Overtaking { named, xid, before, since };
        let (lately, long_ago) =
            (looked - OVERTAKEN_WITHIN / 2, looked - OVERTAKEN_WITHIN - Duration::from_millis(1));
        assert!(point.takes(Xid(10), lately), "it may have committed after the point");
        assert!(!point.takes(Xid(10), long_ago), "it was seen before the point could be");
        assert!(point.takes(Xid(21), long_ago), "one look that finds both has it later");
        assert!(!point.takes(Xid(9), lately), "it was over when the point was recorded");
    }
}
