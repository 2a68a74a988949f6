//! Messages behind a claim that is missing: what answers did not follow a loss of the log.

use std::time::{Duration, Instant};

use super::{Edge, Progress};
use crate::stream::bus::{BusError, log::Log, read::LogEntry, terms};

/// Another replica answers one of the next reads, and NATS repairs one that has other messages. A mirror
/// stays as it is: then the clients resume elsewhere.
const LACKING_WITHIN: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(3) };

impl<L: Log> Edge<L> {
    /// Whether the message may follow the last one: a leader's claim is between those of two leaders.
    pub(super) fn follows(&self, entry: &LogEntry) -> bool {
        let known = Some(self.term).filter(|term| *term > 0);
        // What cannot be read is refused with its reason when it is applied.
        terms::follows(known, self.settings.log.subjects(), entry).unwrap_or(true)
    }

    /// Publishes what was read before this message, which it does not read. Ends the streams if the claim
    /// stays missing (E5).
    pub(super) async fn lacks_claim(&mut self, entry: &LogEntry) -> BusError {
        self.flush();
        let known = self.lacking.filter(|(seq, _)| *seq == entry.seq);
        let (_, since) = *self.lacking.insert(known.unwrap_or((entry.seq, Instant::now())));
        let is_open = matches!(self.progress, Progress::Open | Progress::Filling);
        if is_open && since.elapsed() >= LACKING_WITHIN {
            let lacks = format!(
                "the claim of the leader that wrote message {} is missing. If the stream is a mirror, \
                 it did not follow a loss: delete the mirror and make it again",
                entry.seq
            );
            if let Err(error) = self.start_over(&lacks).await {
                return error;
            }
        }
        terms::lost(entry.seq)
    }
}
