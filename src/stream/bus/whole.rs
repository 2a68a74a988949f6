//! Reads whole rounds of the log: most are one message, large ones have parts.

use super::{
    BusError,
    codec::{self, LogMessage, RoundMessage},
    log::Log,
    read::{LogEntry, ReadFrom},
};

/// The most bytes of a round: DATASTREAM_MAX_ROUND is at most an eighth of the memory.
const ROUND_MAX: usize = 512 << 20;

/// Puts the parts of rounds together. They are contiguous in the log.
#[derive(Debug)]
pub(super) struct Assembly {
    body: Vec<u8>,
    next: u32,
    /// The most bytes of a round.
    most: usize,
}

impl Default for Assembly {
    fn default() -> Self {
        Self::up_to(ROUND_MAX)
    }
}

impl Assembly {
    /// Of rounds of at most so many bytes.
    pub(super) fn up_to(most: usize) -> Self {
        Self { body: Vec::new(), next: 0, most: most.min(ROUND_MAX) }
    }

    /// Forgets the parts so far.
    pub(super) fn reset(&mut self) {
        (self.body, self.next) = (Vec::new(), 0);
    }

    /// The round that this message completes; every other message comes back as it is. `None` for a
    /// part that is not the last one.
    pub(super) fn add<L: Log>(
        &mut self,
        log: &L,
        entry: &LogEntry,
    ) -> Result<Option<LogMessage>, codec::BadMessage> {
        let (number, of) = match codec::decode(log.subjects(), entry)? {
            LogMessage::Part { number, of } => (number, of),
            other => return Ok(Some(other)),
        };
        if number == 1 {
            (self.body, self.next) = (Vec::new(), 1);
        }
        // A reader that begins within a round lacks its first parts: it is older than all it reads.
        if number != self.next {
            self.reset();
            return Ok(None);
        }
        if self.body.len() + entry.payload.len() > self.most {
            self.reset();
            return Err(codec::BadMessage::TooLarge(self.most));
        }
        self.body.extend_from_slice(&entry.payload);
        self.next += 1;
        if number < of {
            return Ok(None);
        }
        let body = std::mem::take(&mut self.body);
        codec::decode_assembled(entry, &body).map(Some)
    }
}

/// The round that ends with this message; `None` if it ends no round, or its parts are gone.
pub(super) async fn round_ending_with<L: Log>(
    log: &L,
    entry: &LogEntry,
) -> Result<Option<RoundMessage>, BusError> {
    let unreadable = |error: codec::BadMessage| BusError::Unreadable(error.to_string());
    let decoded = match codec::decode(log.subjects(), entry).map_err(unreadable)? {
        LogMessage::Part { number, of } if number == of => {
            let mut assembly = Assembly::default();
            let (mut next, mut found) = (entry.seq.saturating_sub(u64::from(of) - 1), None);
            while next <= entry.seq {
                let parts = log.read(ReadFrom::Sequence(next)).await?;
                let Some(last) = parts.last() else { break };
                next = last.seq + 1;
                for part in parts.iter().filter(|part| part.seq <= entry.seq) {
                    found = assembly.add(log, part).map_err(unreadable)?;
                }
            }
            found
        }
        other => Some(other),
    };
    match decoded {
        Some(LogMessage::Round(round)) => Ok(Some(*round)),
        _ => Ok(None),
    }
}
