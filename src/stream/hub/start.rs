//! How a stream starts: as the client requested, and with which rounds.

use super::Position;
use crate::stream::{
    frame::Frame,
    round::{FinishedAt, GameId, RoundId},
    start_point::SeedMode,
    stored_round::StoredPart,
    transaction::{Attachment, Finish, RoundName, Xid},
};

/// How a stream starts.
#[derive(Debug)]
pub enum Opening {
    /// Not resumed: the rounds of the [`SeedMode`].
    Seed(Seeds),
    /// Resumed: rounds of the topic after the named one, in order.
    Resumed(Resumed),
    /// The resume point cannot be answered: the stream starts over with this seed.
    Gap(Seeds),
}

impl Opening {
    /// Takes out the rounds that are read from the database as the client takes them.
    pub(crate) fn take_stored(&mut self) -> Stored {
        match self {
            Self::Resumed(resumed) => Stored::Rounds(std::mem::take(&mut resumed.stored)),
            Self::Seed(seeds) | Self::Gap(seeds) => {
                Stored::Seeds(std::mem::take(&mut seeds.stored))
            }
        }
    }
}

/// The seed of a stream, oldest first.
#[derive(Debug, Default)]
pub struct Seeds {
    /// All rounds of it, if the hub has the bytes of each.
    pub frames: Vec<Frame>,
    /// Otherwise all of them are here: the others are read in between.
    pub(crate) stored: Vec<SeedRound>,
}

/// Rounds of an opening that are read from the database, or follow such ones.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Those of a replay.
    Rounds(StoredPart),
    /// Those of a seed.
    Seeds(Vec<SeedRound>),
}

impl Default for Stored {
    fn default() -> Self {
        Self::Seeds(Vec::new())
    }
}

impl Stored {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Rounds(part) => part.is_empty(),
            Self::Seeds(seeds) => seeds.is_empty(),
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

/// Where a stream starts, as it was prepared.
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

impl MissingSeed {
    /// The name by which it is read: the hub does not know its table.
    pub(crate) fn name(&self) -> RoundName {
        (Attachment::ANY, self.age.1.clone())
    }
}

/// A round of a seed, or what to read if the hub has no bytes of it.
pub(crate) type SeedRound = Result<Frame, MissingSeed>;

/// A start, and the seed if the stream does not resume.
#[derive(Debug)]
pub struct SeededStart {
    /// The start.
    pub start: Start,
    /// The seed.
    pub seed: SeedMode,
    /// Whether there is memory to read rounds of the seed of which the hub has no bytes.
    pub reads_seeds: bool,
}

impl From<Start> for SeededStart {
    fn from(start: Start) -> Self {
        Self { start, seed: SeedMode::default(), reads_seeds: false }
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
