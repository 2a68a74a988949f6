//! Messages of the log. Every message names the version of its form.
//!
//! A reader that meets another version knows that it lacks something, and says so: it never passes
//! a message over.

mod decode;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use self::decode::{
    BadMessage, LogMessage, begins_term, decode, decode_assembled, is_repeat, is_whole, read_mark,
    term,
};
use super::{outgoing::Outgoing, space::Space, subject::Subjects};
use crate::stream::{
    hub::Captured,
    round::{Game, GameId},
    transaction::{Attachment, Xid},
};

/// The version and the transaction of a round.
const ROUND: &str = "Ds";
/// Up to where the outbox is in the log.
const POSITION: &str = "Ds-Pos";
/// Marks a repetition: the round is in the log before, or was published before the log began.
const REPEAT: &str = "Ds-Repeat";
/// A part of a round that is larger than a message may be: `2/3`.
const PART: &str = "Ds-Part";
/// Marks a claim behind which the log lost messages that NATS had acknowledged.
const LOST: &str = "Ds-Lost";
/// Stands beside a mark once its leader has appended again what NATS lost. Absent in earlier versions.
const WHOLE: &str = "Ds-Whole";
/// The version that this program writes, and the only one that it reads.
const VERSION: &str = "1";
/// Room for the headers of a message, and for the protocol's own.
const HEADERS_MAX: usize = 2_048;

/// Up to where the outbox is in the log: every round that the snapshot sees stands at `base` or
/// before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PositionMark {
    /// The sequence.
    pub(crate) base: u64,
    /// Whose transaction ids they are.
    pub(crate) space: Space,
    /// The database's clock at the poll, in microseconds since the epoch.
    pub(crate) at: i64,
    /// The snapshot as PostgreSQL prints it.
    pub(crate) snapshot: String,
    /// Whether servers without a bus may stream the same database: clients may have their order of the
    /// rounds so far. Absent in earlier versions.
    pub(crate) is_shared: bool,
}

/// A round in the log.
#[derive(Clone, Debug)]
pub(crate) struct RoundMessage {
    /// The round, with its transaction. Its poll is the sequence at which the leader's poll began.
    pub(crate) captured: Captured,
    /// The name of the space of its transaction.
    pub(crate) space: u64,
    /// The sequence of the claim of the leader that appended it.
    pub(crate) term: u64,
    /// Whether it is repeated for edges that start.
    pub(crate) is_repeat: bool,
}

/// A game's row in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GameMessage {
    /// It is there, as this.
    Row(Game),
    /// It is gone.
    Gone(GameId),
}

/// A session of the database: a process id is used again, its start is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    pub(crate) start: String,
}

/// A node that claims to lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Its name.
    pub(crate) node: String,
    /// Its session, which the next leader ends. `None` behind a pooler.
    pub(crate) backend: Option<Backend>,
    /// Its process, by a number of chance: two nodes may have one name. 0 in earlier versions.
    #[serde(default)]
    pub(crate) process: u64,
    /// The term of the message before it; 0 if there is none, and in earlier versions.
    #[serde(default)]
    pub(crate) former: u64,
}

/// The messages of a round: one, or its parts if the body is larger than NATS takes.
pub(super) fn round_messages(
    subjects: &Subjects,
    message: &RoundMessage,
    max_payload: usize,
) -> Vec<Outgoing> {
    let round = &message.captured.round;
    let body = Bytes::from(round.to_json());
    let size = max_payload.saturating_sub(HEADERS_MAX).max(1_024);
    let parts = body.len().div_ceil(size).max(1);
    let subject = subjects.round(&round.game_id);
    let head = round_header(message);
    let part = |number: usize| {
        let mut headers = HeaderMap::new();
        headers.insert(ROUND, head.as_str());
        if message.is_repeat {
            headers.insert(REPEAT, "1");
        }
        if parts > 1 {
            headers.insert(PART, format!("{}/{parts}", number + 1));
        }
        let range = number * size..body.len().min((number + 1) * size);
        Outgoing { subject: subject.clone(), headers, payload: body.slice(range) }
    };
    (0..parts).map(part).collect()
}

fn round_header(message: &RoundMessage) -> String {
    let RoundMessage { captured, space, term, .. } = message;
    let (Xid(xid), Xid(before), Attachment(attachment)) =
        (captured.xid, captured.before, captured.attachment);
    let (at, finished) = (captured.at.unwrap_or(-1), captured.round.finished_at.micros());
    let poll = captured.poll;
    format!("{VERSION} {term} {space} {xid} {before} {attachment} {at} {finished} {poll}")
}

/// The message of a row of the directory.
pub(super) fn game_message(subjects: &Subjects, term: u64, game: &GameMessage) -> Outgoing {
    // Serializing strings into a Vec cannot fail.
    let (id, payload) = match game {
        GameMessage::Row(game) => (&game.id, serde_json::to_vec(game).unwrap_or_default()),
        GameMessage::Gone(id) => (id, Vec::new()),
    };
    Outgoing { subject: subjects.game(id), headers: headers_of(term), payload: payload.into() }
}

/// The message of a claim. `lost`: the log lost messages before it.
pub(super) fn claim_message(subjects: &Subjects, term: u64, claim: &Claim, lost: bool) -> Outgoing {
    let mut headers = headers_of(term);
    if lost {
        headers.insert(LOST, "1");
    }
    let payload = serde_json::to_vec(claim).unwrap_or_default().into();
    Outgoing { subject: subjects.claim(), headers, payload }
}

/// The message with which the log begins again: whatever is before it does not count.
pub(super) fn begin_message(subjects: &Subjects, term: u64) -> Outgoing {
    Outgoing { subject: subjects.begin(), headers: headers_of(term), payload: Bytes::new() }
}

/// The message that carries a mark alone.
pub(super) fn mark_message(subjects: &Subjects, term: u64) -> Outgoing {
    Outgoing { subject: subjects.mark(), headers: headers_of(term), payload: Bytes::new() }
}

fn headers_of(term: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ROUND, format!("{VERSION} {term}"));
    headers
}

/// A mark as it stands in the headers.
#[derive(Clone, Debug)]
pub(super) struct EncodedMark {
    position: String,
    is_whole: bool,
}

impl EncodedMark {
    /// `is_whole`: the log has everything that was committed up to the mark.
    pub(super) fn new(mark: &PositionMark, is_whole: bool) -> Self {
        let Space { system, timeline, database, generation } = &mark.space;
        let PositionMark { base, at, snapshot, is_shared, .. } = mark;
        let place = format!("{base} {system} {timeline} {database} {generation} {at}");
        let position = format!("{VERSION} {place} {snapshot} {}", u8::from(*is_shared));
        Self { position, is_whole }
    }

    /// Whether NATS takes the message with it: a snapshot names each running transaction.
    pub(super) fn fits_on(&self, message: &Outgoing, max_payload: usize) -> bool {
        message.payload.len() + self.position.len() + HEADERS_MAX <= max_payload
    }

    /// Puts it on a message if it fits; returns whether it did.
    pub(super) fn put_on(&self, message: &mut Outgoing, max_payload: usize) -> bool {
        let fits = self.fits_on(message, max_payload);
        if fits {
            message.headers.insert(POSITION, self.position.as_str());
            if self.is_whole {
                message.headers.insert(WHOLE, "1");
            }
        }
        fits
    }
}

#[cfg(test)]
mod tests;
