//! Rounds that an edge has published, so that it leaves out what the log has twice.
//!
//! NATS may lose messages that it acknowledged. The leader then appends their rounds again, at other
//! sequences: a round is known by its row in the outbox, not by its sequence.

use std::collections::{HashSet, VecDeque};

use super::{PositionMark, codec::RoundMessage};
use crate::stream::{
    hub::Captured,
    round::{FinishedAt, RoundId},
    snapshot::Snapshot,
    transaction::Finish,
};

/// Rounds that are remembered one by one. Marks are at most some seconds old, and older rounds are
/// known by the mark: this is more than a log takes in that time.
const REMEMBERED: usize = if cfg!(test) { 64 } else { 200_000 };
/// The most bytes of them: an id may be a text.
const BYTES: usize = if cfg!(test) { 20_000 } else { 64 << 20 };

/// Names one finish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A row of the outbox. Ids may be used again after a crash, but not at the same microsecond.
    Row(Finish, i64),
    /// A round that was read by `finished_at`.
    Moment(RoundId, FinishedAt),
}

impl Key {
    /// About the bytes that it takes, twice.
    fn size(&self) -> usize {
        let (Self::Row(Finish { round, .. }, _) | Self::Moment(round, _)) = self;
        2 * (size_of::<Self>() + round.as_text().map_or(0, str::len))
    }
}

/// The rounds that were published.
#[derive(Debug, Default)]
pub(super) struct KnownRounds {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
    bytes: usize,
    /// Every round of this space that the snapshot sees has been read.
    mark: Option<(u64, Snapshot)>,
}

impl KnownRounds {
    /// Whether the round was published before.
    pub(super) fn has(&self, message: &RoundMessage) -> bool {
        let captured = &message.captured;
        let is_seen = |(space, snapshot): &(u64, Snapshot)| {
            captured.at.is_some() && *space == message.space && snapshot.sees(captured.xid)
        };
        self.mark.as_ref().is_some_and(is_seen) || self.keys.contains(&key(captured))
    }

    /// Remembers a round.
    pub(super) fn insert(&mut self, captured: &Captured) {
        let key = key(captured);
        if self.keys.insert(key.clone()) {
            self.bytes += key.size();
            self.order.push_back(key);
        }
        while (self.order.len() > REMEMBERED || self.bytes > BYTES)
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= oldest.size();
            self.keys.remove(&oldest);
        }
    }

    /// Notes that all rounds that the mark's snapshot sees have been read. An older mark of the same
    /// space, in a part of the log that was written again, changes nothing.
    pub(super) fn reach(&mut self, mark: &PositionMark) {
        let Ok(snapshot) = mark.snapshot.parse::<Snapshot>() else { return };
        let space = mark.space.name();
        let is_older = self
            .mark
            .as_ref()
            .is_some_and(|(known, newest)| *known == space && snapshot.is_before(newest));
        if !is_older {
            self.mark = Some((space, snapshot));
        }
    }
}

fn key(captured: &Captured) -> Key {
    match captured.at {
        Some(at) => Key::Row(captured.finish(), at),
        None => Key::Moment(captured.round.round_id.clone(), captured.round.finished_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::{GameId, Round, UnixMillis};

    /// A round whose id is as long as ids may be.
    fn round(number: i64) -> Captured {
        let id = format!("{}{number:03}", "x".repeat(197));
        Captured::from_table(Round {
            round_id: RoundId::text(&id).expect("an id"),
            game_id: GameId::number(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(number).expect("in range"),
            extras: "{}".into(),
            timestamp: UnixMillis(0),
        })
    }

    #[test]
    fn names_of_any_length_are_remembered_within_their_bytes() {
        let mut known = KnownRounds::default();
        (1..=100).for_each(|number| known.insert(&round(number)));
        assert!(known.bytes <= BYTES, "{} bytes", known.bytes);
        assert!((10..REMEMBERED).contains(&known.order.len()), "{} names", known.order.len());
        assert_eq!(known.keys.len(), known.order.len());
        assert!(known.keys.contains(&key(&round(100))), "the newest");
    }
}
