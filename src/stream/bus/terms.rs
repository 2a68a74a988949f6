//! Checks that messages are of one log: a replica of NATS may answer with an end that was lost.
//!
//! After a loss the next message is a claim, since every append names the end and the claim that its
//! leader knows. Each claim names the leader's term before it. So messages of two logs do not follow
//! each other unnoticed.

use super::{
    BusError,
    codec::{self, LogMessage},
    read::LogEntry,
    subject::Subjects,
};

/// The terms of messages that were read in order.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Of the last message; `None` before the first one.
    last: Option<u64>,
}

impl Terms {
    /// The term of the last message; 0 before the first one.
    pub(super) fn last(&self) -> u64 {
        self.last.unwrap_or_default()
    }

    /// Takes the next message; fails if it does not follow the one before it.
    pub(super) fn follow(&mut self, subjects: &Subjects, entry: &LogEntry) -> Result<(), BusError> {
        let follows = follows(self.last, subjects, entry)?;
        self.last = codec::term(entry).or(self.last);
        match follows {
            true => Ok(()),
            false => Err(lost(entry.seq)),
        }
    }
}

/// Whether the message may follow one of this term; `None` if the term is not known.
pub(super) fn follows(
    last: Option<u64>,
    subjects: &Subjects,
    entry: &LogEntry,
) -> Result<bool, BusError> {
    // Another version is refused by its reader.
    let (Some(last), Some(term)) = (last, codec::term(entry)) else { return Ok(true) };
    Ok(match former(subjects, entry)? {
        // A claim of an earlier version names none.
        Some(former) => former == 0 || former == last,
        None => term == last,
    })
}

/// The former term, if the message is a claim that begins another one.
fn former(subjects: &Subjects, entry: &LogEntry) -> Result<Option<u64>, BusError> {
    if !codec::begins_term(subjects, entry) {
        return Ok(None);
    }
    let decoded = codec::decode(subjects, entry);
    match decoded.map_err(|error| BusError::Unreadable(error.to_string()))? {
        LogMessage::Claim { claim, .. } => Ok(Some(claim.former)),
        _ => Ok(None),
    }
}

/// A replica answers with messages that the log has lost: it will not for long.
pub(super) fn lost(seq: u64) -> BusError {
    BusError::Unavailable(format!("a replica answers with a lost end of the log, at message {seq}"))
}
