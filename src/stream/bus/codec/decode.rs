//! Reads messages of the log.

use serde::Deserialize;

use super::{
    Claim, GameMessage, LOST, PART, POSITION, PositionMark, REPEAT, ROUND, RoundMessage, VERSION,
    WHOLE,
};
use crate::stream::{
    bus::{
        read::LogEntry,
        space::Space,
        subject::{Kind, Subjects},
    },
    hub::Captured,
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    transaction::{Attachment, Xid},
};

/// What a message of the log says.
#[derive(Clone, Debug)]
pub(crate) enum LogMessage {
    /// A round.
    Round(Box<RoundMessage>),
    /// A part of a round, which is complete with its last one.
    Part {
        /// Counted from 1.
        number: u32,
        /// How many there are.
        of: u32,
    },
    /// A row of the directory.
    Game(GameMessage),
    /// A claim to lead. `lost`: the log lost messages before it.
    Claim {
        /// By this node.
        claim: Claim,
        /// Whether some rounds follow that were in the log before.
        lost: bool,
    },
    /// The log begins again.
    Begin,
    /// A mark alone.
    Mark,
}

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMessage {
    /// A later version of this program wrote it.
    #[error("it is of version {0:?}, which this program does not know")]
    Version(String),
    /// A round in parts has more bytes than this server may hold.
    #[error("it has more than {0} bytes: set a larger DATASTREAM_MEMORY")]
    TooLarge(usize),
    /// It is not what the version says.
    #[error("{0}")]
    Malformed(&'static str),
}

#[derive(Deserialize)]
struct RoundBody {
    round_id: RoundId,
    game_id: GameId,
    game_slug: String,
    game_type: String,
    extras: String,
    timestamp: i64,
}

#[derive(Deserialize)]
struct GameBody {
    id: GameId,
    slug: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The fields of a header after its version.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn of(value: &'a str) -> Result<Self, BadMessage> {
        let mut fields = value.split(' ');
        match fields.next() {
            Some(VERSION) => Ok(Self(fields)),
            other => Err(BadMessage::Version(other.unwrap_or_default().to_owned())),
        }
    }

    fn text(&mut self) -> Result<&'a str, BadMessage> {
        self.0.next().ok_or(BadMessage::Malformed("a header of it is cut off"))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, BadMessage> {
        let number = self.text()?.parse();
        number.map_err(|_| BadMessage::Malformed("a number in its headers is none"))
    }
}

/// The mark of a message, if it has one.
pub(crate) fn read_mark(entry: &LogEntry) -> Result<Option<PositionMark>, BadMessage> {
    let Some(value) = header(entry, POSITION) else { return Ok(None) };
    let mut fields = Fields::of(value)?;
    let base = fields.number()?;
    let space = Space {
        system: fields.text()?.to_owned(),
        timeline: fields.number()?,
        database: fields.number()?,
        generation: fields.number()?,
    };
    let (at, snapshot) = (fields.number()?, fields.text()?.to_owned());
    // Absent in earlier versions, which did not look for other servers: nobody knows.
    let is_shared = fields.text() != Ok("0");
    Ok(Some(PositionMark { base, space, at, snapshot, is_shared }))
}

/// The sequence of the claim of the leader that appended the message; `None` if it cannot be read.
pub(crate) fn term(entry: &LogEntry) -> Option<u64> {
    Fields::of(header(entry, ROUND)?).and_then(|mut fields| fields.number()).ok()
}

/// Whether the message is a claim with which a leader's term begins.
pub(crate) fn begins_term(subjects: &Subjects, entry: &LogEntry) -> bool {
    term(entry) == Some(entry.seq) && subjects.kind(&entry.subject) == Some(Kind::Claim)
}

/// Whether the message is a repetition of a round.
pub(crate) fn is_repeat(entry: &LogEntry) -> bool {
    header(entry, REPEAT).is_some()
}

/// Whether the log has everything that was committed up to the mark of this message.
pub(crate) fn is_whole(entry: &LogEntry) -> bool {
    header(entry, WHOLE).is_some()
}

/// What the message says.
pub(crate) fn decode(subjects: &Subjects, entry: &LogEntry) -> Result<LogMessage, BadMessage> {
    let fields = Fields::of(version(entry)?)?;
    let unknown = BadMessage::Malformed("its subject is of no known kind");
    match subjects.kind(&entry.subject).ok_or(unknown)? {
        Kind::Round => match header(entry, PART) {
            Some(part) => part_of(part),
            None => round(fields, is_repeat(entry), &entry.payload),
        },
        Kind::Game(id) => game(id, &entry.payload),
        Kind::Claim => {
            let claim = serde_json::from_slice(&entry.payload)
                .map_err(|_| BadMessage::Malformed("its body is no claim"))?;
            Ok(LogMessage::Claim { claim, lost: header(entry, LOST).is_some() })
        }
        Kind::Begin => Ok(LogMessage::Begin),
        Kind::Mark => Ok(LogMessage::Mark),
    }
}

/// A round whose parts have been put together. `entry` is its last part.
pub(crate) fn decode_assembled(entry: &LogEntry, body: &[u8]) -> Result<LogMessage, BadMessage> {
    round(Fields::of(version(entry)?)?, is_repeat(entry), body)
}

fn version(entry: &LogEntry) -> Result<&str, BadMessage> {
    header(entry, ROUND).ok_or(BadMessage::Malformed("it names no version"))
}

fn header<'a>(entry: &'a LogEntry, name: &'static str) -> Option<&'a str> {
    entry.headers.get_last(name).map(async_nats::HeaderValue::as_str)
}

fn part_of(value: &str) -> Result<LogMessage, BadMessage> {
    let malformed = BadMessage::Malformed("its part is no part");
    let (number, of) = value.split_once('/').ok_or(malformed.clone())?;
    match (number.parse(), of.parse()) {
        (Ok(number), Ok(of)) if (1..=of).contains(&number) => Ok(LogMessage::Part { number, of }),
        _ => Err(malformed),
    }
}

fn round(mut fields: Fields<'_>, is_repeat: bool, body: &[u8]) -> Result<LogMessage, BadMessage> {
    let (term, space) = (fields.number()?, fields.number()?);
    let (xid, before) = (Xid(fields.number()?), Xid(fields.number()?));
    let attachment = Attachment(fields.number()?);
    let at: i64 = fields.number()?;
    let finished_at = FinishedAt::from_micros(fields.number()?)
        .ok_or(BadMessage::Malformed("its finished_at is out of range"))?;
    let poll = fields.number()?;
    let body: RoundBody = serde_json::from_slice(body)
        .map_err(|_| BadMessage::Malformed("its body is not the JSON of a round"))?;
    let round = Round {
        round_id: body.round_id,
        game_id: body.game_id,
        game_slug: body.game_slug.into(),
        game_type: body.game_type.into(),
        finished_at,
        extras: body.extras.into(),
        timestamp: UnixMillis(body.timestamp),
    };
    let at = (at >= 0).then_some(at);
    let captured = Captured { round, xid, before, attachment, at, poll, recorded: None };
    Ok(LogMessage::Round(Box::new(RoundMessage { captured, space, term, is_repeat })))
}

fn game(id: GameId, body: &[u8]) -> Result<LogMessage, BadMessage> {
    if body.is_empty() {
        return Ok(LogMessage::Game(GameMessage::Gone(id)));
    }
    let row: GameBody = serde_json::from_slice(body)
        .map_err(|_| BadMessage::Malformed("it is no row of the directory"))?;
    let (slug, name, kind) = (row.slug.into(), row.name.into(), row.kind.into());
    Ok(LogMessage::Game(GameMessage::Row(Game { id: row.id, slug, name, kind })))
}
