//! How a stream starts: as the client requested, and with which rounds.

use std::collections::BTreeMap;

use super::Position;
use crate::stream::{
    frame::Frame,
    round::{FinishedAt, GameId, RoundId},
    start_point::SeedMode,
    stored_round::StoredPart,
    transaction::{Finish, Xid},
};

/// How a stream starts.
#[derive(Debug)]
pub enum Opening {
    /// Not resumed: the rounds of the [`SeedMode`], oldest first.
    Seed(Vec<Frame>),
    /// Resumed: rounds of the topic after the named one, in order.
    Resumed(Resumed),
    /// The resume point cannot be answered: the stream starts over with this seed.
    Gap(Vec<Frame>),
}

impl Opening {
    /// Takes out the rounds that only the database has.
    pub(crate) fn take_stored(&mut self) -> StoredPart {
        match self {
            Self::Resumed(resumed) => std::mem::take(&mut resumed.stored),
            Self::Seed(_) | Self::Gap(_) => StoredPart::default(),
        }
    }
}

/// The rounds after a resume point. [`Joint::rest`] and the subscription continue them.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Rounds that only the database has.
    pub stored: StoredPart,
    /// The first of the rounds that follow them.
    pub frames: Vec<Frame>,
}

/// Where a stream starts, as the client requested.
#[derive(Debug)]
pub enum Start {
    /// With the seed.
    Seed,
    /// After a round in the ring buffers.
    After(RoundId),
    /// After a round that only the database has.
    Replayed(Replay),
    /// With the seed, because the resume point cannot be answered.
    Gap,
}

/// The key by which the latest round is found.
pub(crate) type Age = (FinishedAt, RoundId);

/// A latest round of which the hub has no bytes.
#[derive(Clone, Debug)]
pub(crate) struct MissingSeed {
    /// Its game.
    pub game: GameId,
    /// When it finished, and its id.
    pub age: Age,
    /// The bytes of its frame.
    pub bytes: usize,
}

/// Such rounds, read from the database. `None`: it cannot be read any more.
pub(crate) type ReadSeeds = BTreeMap<Age, Option<Frame>>;

/// A start, and the seed if the stream does not resume.
#[derive(Debug)]
pub struct SeededStart {
    /// The start.
    pub start: Start,
    /// The seed.
    pub seed: SeedMode,
    /// Rounds of the seed of which the hub has no bytes.
    pub(crate) read: ReadSeeds,
}

impl From<Start> for SeededStart {
    fn from(start: Start) -> Self {
        Self { start, seed: SeedMode::default(), read: ReadSeeds::new() }
    }
}

/// The rounds that the database has after the one that a client named. The hub appends rounds from
/// the ring buffers, in the order of the stream: those published after `seen`, and those of the
/// transaction `from` or a later one.
///
/// A client may disconnect anywhere in a replay and name the last round it got. If that round is
/// answered by position, the replay must have sent all earlier rounds of the stream before it. The
/// database does not know that order, so the ring buffers' order wins.
#[derive(Debug)]
pub struct Replay {
    /// The oldest transaction whose rounds may be later than the named one.
    pub from: Xid,
    /// The durable position when the database was queried.
    pub seen: Position,
    /// The database's rounds, without the named one.
    pub rounds: StoredPart,
    /// The named round's finishes in the database: the client has these, and lacks a later one.
    pub known: Vec<Finish>,
}
