//! Where a client asks its stream to start.

use crate::stream::round::NamedRound;

/// The rounds at the start of a stream that does not resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeedMode {
    /// The latest round of the selection.
    #[default]
    Latest,
    /// The latest round of each game of the selection, oldest first.
    Each,
    /// No round.
    Nothing,
}

impl SeedMode {
    /// The seed after a gap. A client that asked for no seed gets the latest round: only its event
    /// shows that an event stream starts over.
    pub(crate) fn after_gap(self) -> Self {
        if self == Self::Nothing { Self::Latest } else { self }
    }
}

/// The start that a client asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartPoint {
    /// The round after which to resume.
    pub(crate) after: Option<NamedRound>,
    /// The seed, if the stream does not resume.
    pub(crate) seed: SeedMode,
}

impl From<Option<NamedRound>> for StartPoint {
    fn from(after: Option<NamedRound>) -> Self {
        Self { after, seed: SeedMode::default() }
    }
}
