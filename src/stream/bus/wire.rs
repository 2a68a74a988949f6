//! Questions of edges and the leader's answers, as JSON.
//!
//! A later version may add fields; one that changes their meaning asks on other subjects.

use serde::{Deserialize, Serialize};

use crate::stream::{
    list::{ListKey, ListPlace, ListedRounds},
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    round_store::{StoreError, StoredRounds},
    stored_round::StoredRound,
    transaction::{Attachment, Finish, RoundName, Xid},
};

/// An error of the answer's form.
pub(super) const UNREADABLE: &str = "the answer cannot be read";

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// The directory of games.
    Games,
    /// The finished rounds of this name.
    Place(String),
    /// The keys of rounds of these games after a place.
    Keys { games: Vec<GameId>, after: Option<WirePlace>, limit: usize },
    /// The content of listed rounds.
    Rounds { keys: Vec<WireKey>, bytes: usize },
    /// Where the rounds after these begin.
    Points(Vec<RoundId>),
    /// Rounds after a transaction. `space`: whose transaction ids they are.
    Replay { space: u64, from: u64, games: Option<Vec<GameId>>, limit: usize, snapshot: String },
    /// The content of these rounds.
    Contents(Vec<(i32, RoundId)>),
}

impl Question {
    /// The last token of its subject.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Games => "games",
            Self::Place(_) | Self::Keys { .. } | Self::Rounds { .. } => "rounds",
            Self::Points(_) | Self::Replay { .. } | Self::Contents(_) => "replay",
        }
    }
}

/// Microseconds of `finished_at`, and the round.
pub(super) type WirePlace = (i64, RoundId);
/// A place, and the number of its table.
pub(super) type WireKey = (i64, RoundId, i32);

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answered {
    Games(Vec<WireGame>),
    Keys(Vec<WireKey>),
    /// A page of keys, and whether no round comes after them.
    Page {
        keys: Vec<WireKey>,
        is_last: bool,
    },
    Rounds {
        rounds: Vec<WireRound>,
        cut: Option<RoundId>,
    },
    Points(Vec<(RoundId, u64)>),
    Replay {
        rounds: Vec<WireStored>,
        is_full: bool,
        trimmed: u64,
    },
    Contents(Vec<(i32, WireRound)>),
    Failed(Failure),
}

/// Why a question has no answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    Refused(String),
    TooMuch(String),
    Unreadable(String),
    Unavailable(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireGame {
    id: GameId,
    slug: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireRound {
    round: RoundId,
    game: GameId,
    slug: String,
    #[serde(rename = "type")]
    kind: String,
    /// Microseconds.
    finished: i64,
    extras: String,
    timestamp: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireStored {
    xid: u64,
    before: u64,
    table: i32,
    round: RoundId,
    game: GameId,
    #[serde(rename = "type")]
    kind: String,
    bytes: usize,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(text) => Self::Refused(text),
            StoreError::TooMuch(text) => Self::TooMuch(text),
            StoreError::Unreadable(text) => Self::Unreadable(text),
            StoreError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(text) => Self::Refused(text),
            Failure::TooMuch(text) => Self::TooMuch(text),
            Failure::Unreadable(text) => Self::Unreadable(text),
            Failure::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<Game> for WireGame {
    fn from(game: Game) -> Self {
        let [slug, name, kind] = [&game.slug, &game.name, &game.kind].map(ToString::to_string);
        Self { id: game.id, slug, name, kind }
    }
}

impl From<WireGame> for Game {
    fn from(game: WireGame) -> Self {
        let (slug, name, kind) = (game.slug.into(), game.name.into(), game.kind.into());
        Self { id: game.id, slug, name, kind }
    }
}

impl From<Round> for WireRound {
    fn from(round: Round) -> Self {
        Self {
            slug: round.game_slug.to_string(),
            kind: round.game_type.to_string(),
            finished: round.finished_at.micros(),
            extras: round.extras.into(),
            timestamp: round.timestamp.0,
            round: round.round_id,
            game: round.game_id,
        }
    }
}

impl WireRound {
    pub(super) fn into_round(self) -> Result<Round, StoreError> {
        Ok(Round {
            finished_at: finished_at(self.finished)?,
            round_id: self.round,
            game_id: self.game,
            game_slug: self.slug.into(),
            game_type: self.kind.into(),
            extras: self.extras.into(),
            timestamp: UnixMillis(self.timestamp),
        })
    }
}

impl From<StoredRound> for WireStored {
    fn from(stored: StoredRound) -> Self {
        let StoredRound { finish, before, game: (game, kind), extras_bytes } = stored;
        let (Xid(xid), Attachment(table), Xid(before)) = (finish.xid, finish.attachment, before);
        let (round, kind, bytes) = (finish.round, kind.to_string(), extras_bytes);
        Self { xid, before, table, round, game, kind, bytes }
    }
}

impl From<WireStored> for StoredRound {
    fn from(stored: WireStored) -> Self {
        let WireStored { xid, before, table, round, game, kind, bytes } = stored;
        let finish = Finish { xid: Xid(xid), attachment: Attachment(table), round };
        let game = (game, kind.into());
        Self { finish, before: Xid(before), game, extras_bytes: bytes }
    }
}

pub(super) fn key_to_wire(key: &ListKey) -> WireKey {
    (key.place.finished_at.micros(), key.place.round.clone(), key.attachment.0)
}

pub(super) fn key_from_wire((micros, round, table): WireKey) -> Result<ListKey, StoreError> {
    let place = place_from_wire((micros, round))?;
    Ok(ListKey { place, attachment: Attachment(table) })
}

pub(super) fn place_from_wire((micros, round): WirePlace) -> Result<ListPlace, StoreError> {
    Ok(ListPlace { finished_at: finished_at(micros)?, round })
}

fn finished_at(micros: i64) -> Result<FinishedAt, StoreError> {
    let unreadable = || StoreError::Unavailable(UNREADABLE.to_owned());
    FinishedAt::from_micros(micros).ok_or_else(unreadable)
}

pub(super) fn listed_to_wire(listed: ListedRounds) -> Answered {
    let rounds = listed.rounds.into_iter().map(WireRound::from).collect();
    Answered::Rounds { rounds, cut: listed.cut }
}

pub(super) fn stored_to_wire(stored: StoredRounds) -> Answered {
    let StoredRounds { rounds, is_full, trimmed: Xid(trimmed) } = stored;
    let rounds = rounds.into_iter().map(WireStored::from).collect();
    Answered::Replay { rounds, is_full, trimmed }
}

pub(super) fn contents_to_wire(contents: Vec<(RoundName, Round)>) -> Answered {
    let wire = |((table, _), round): (RoundName, Round)| (table.0, WireRound::from(round));
    Answered::Contents(contents.into_iter().map(wire).collect())
}
