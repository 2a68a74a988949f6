//! The log as its writer and its readers see it: NATS, or the stand-in of the tests.

use std::{fmt::Debug, future::Future};

use super::{
    BusError,
    append::{AppendError, Appended},
    outgoing::Outgoing,
    read::{Ends, LogEntry, ReadFrom},
    subject::Subjects,
};

/// A log. Cheap to clone.
pub(crate) trait Log: Clone + Debug + Send + Sync + 'static {
    /// The subjects of its messages.
    fn subjects(&self) -> &Subjects;

    /// The most bytes of a message with its headers.
    fn max_payload(&self) -> usize;

    /// The ends of the log, as its leader knows them.
    fn ends(&self) -> impl Future<Output = Result<Ends, BusError>> + Send;

    /// The next messages, in order: fewer than a full page at the end. The answer may lag.
    fn read(&self, from: ReadFrom) -> impl Future<Output = Result<Vec<LogEntry>, BusError>> + Send;

    /// The subjects with a message that match.
    fn subjects_of(
        &self,
        filter: &str,
    ) -> impl Future<Output = Result<Vec<String>, BusError>> + Send;

    /// The last messages of some of these subjects, as of this end of the log or a later one: as many
    /// bytes as one read has. Returns them with the subjects that were not asked for yet.
    fn last_page(
        &self,
        subjects: Vec<String>,
        end: u64,
    ) -> impl Future<Output = Result<(Vec<LogEntry>, Vec<String>), BusError>> + Send;

    /// The last message of each of these subjects. For messages that are small, or few.
    fn last_of(
        &self,
        subjects: &[String],
        end: u64,
    ) -> impl Future<Output = Result<Vec<LogEntry>, BusError>> + Send {
        async move {
            let (mut found, mut rest) = (Vec::with_capacity(subjects.len()), subjects.to_vec());
            while !rest.is_empty() {
                let (entries, left) = self.last_page(rest, end).await?;
                found.extend(entries);
                rest = left;
            }
            Ok(found)
        }
    }

    /// Tells the leader that the log lost messages up to this one: edges that did not read them cannot
    /// know. If that gets lost, the leader has noticed by itself, or will.
    fn report_loss(&self, last: u64) -> impl Future<Output = ()> + Send;

    /// Appends all messages or none, behind the sequence `end`, if `claim` is the last claim (0: there
    /// is none). The sequence alone is no fence: after a loss, another message may have it.
    fn append(
        &self,
        end: u64,
        claim: u64,
        messages: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;
}
