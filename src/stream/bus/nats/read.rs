//! The log on NATS. Reads it by batched direct gets (ADR-31): any replica may answer, and may lag.
//! [`super::append`] has how it appends.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    append::{AppendError, Appended},
    connect::BusError,
    request::{ANSWER_WITHIN, Bus},
};
use crate::stream::bus::{log::Log, outgoing::Outgoing, subject::Subjects};

/// Messages of one read.
const READ_MESSAGES: usize = 1_000;
/// Bytes of one read.
const READ_BYTES: usize = 4 << 20;
/// Subjects of one read of last messages: NATS refuses more than 1,024.
const READ_SUBJECTS: usize = 500;
/// A replica that answers direct gets may lag.
pub(in crate::stream::bus) const LAG_WITHIN: Duration = Duration::from_secs(3);
pub(in crate::stream::bus) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// About the bytes of the headers of a message.
const HEADERS: usize = 512;

/// A message of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    /// Its place.
    pub(crate) seq: u64,
    /// Its subject in the log.
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// What a read begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadFrom {
    /// A sequence, or the first one after it that exists.
    Sequence(u64),
    /// Messages since this time, in seconds since the epoch.
    Time(i64),
}

/// The ends of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Ends {
    #[serde(rename = "first_seq")]
    pub(crate) first: u64,
    #[serde(rename = "last_seq")]
    pub(crate) last: u64,
}

#[derive(Debug, Deserialize)]
struct StreamInfo {
    state: StreamState,
}

#[derive(Debug, Deserialize)]
struct StreamState {
    #[serde(flatten)]
    ends: Ends,
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

impl LogEntry {
    /// Of an answer of a direct get, or of a repetition; `None` if it names no place.
    pub(crate) fn of(message: Message) -> Option<Self> {
        let headers = message.headers?;
        let header = |name: &str| headers.get_last(name).map(|value| value.as_str().to_owned());
        let seq = header("Nats-Sequence")?.parse().ok()?;
        let subject = header("Nats-Subject").unwrap_or_else(|| message.subject.to_string());
        Some(Self { seq, subject, headers, payload: message.payload })
    }

    /// About the bytes that it takes.
    pub(in crate::stream::bus) fn size(&self) -> usize {
        self.subject.len() + self.payload.len() + HEADERS
    }

    /// When it was written, in seconds since the epoch, if the answer says so.
    pub(in crate::stream::bus) fn written(&self) -> Option<i64> {
        let time = self.headers.get_last("Nats-Time-Stamp")?.as_str();
        chrono::DateTime::parse_from_rfc3339(time).ok().map(|time| time.timestamp())
    }
}

impl Log for Bus {
    fn subjects(&self) -> &Subjects {
        self.own_subjects()
    }

    fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    /// From the stream's leader.
    async fn ends(&self) -> Result<Ends, BusError> {
        let info: StreamInfo = self.call("STREAM.INFO", &Value::Null).await?;
        Ok(info.state.ends)
    }

    /// The subjects with a message that match, in pages of NATS's own size.
    async fn subjects_of(&self, filter: &str) -> Result<Vec<String>, BusError> {
        let mut found = Vec::new();
        loop {
            let request = json!({ "subjects_filter": filter, "offset": found.len() });
            let info: StreamInfo = self.call("STREAM.INFO", &request).await?;
            if info.state.subjects.is_empty() {
                return Ok(found);
            }
            found.extend(info.state.subjects.into_keys());
        }
    }

    /// The next messages of the log, in order: fewer than a full page at its end.
    async fn read(&self, from: ReadFrom) -> Result<Vec<LogEntry>, BusError> {
        let mut request = json!({
            "batch": READ_MESSAGES, "max_bytes": READ_BYTES, "next_by_subj": self.subjects().log(),
        });
        match from {
            ReadFrom::Sequence(seq) => request["seq"] = json!(seq.max(1)),
            ReadFrom::Time(seconds) => {
                let time = chrono::DateTime::from_timestamp(seconds.max(0), 0).unwrap_or_default();
                request["start_time"] = json!(time.to_rfc3339());
            }
        }
        Ok(self.get(&request).await?.entries)
    }

    async fn last_page(
        &self,
        mut subjects: Vec<String>,
        end: u64,
    ) -> Result<(Vec<LogEntry>, Vec<String>), BusError> {
        let later = subjects.split_off(subjects.len().min(READ_SUBJECTS));
        let mut entries = self.last_as_of(&subjects, end).await?;
        entries.retain(|entry| subjects.contains(&entry.subject));
        let known: HashSet<_> = entries.iter().map(|entry| &entry.subject).collect();
        subjects.retain(|subject| !known.contains(subject));
        // An answer ends early at the limit of bytes: some of the rest is asked for one by one.
        let mut bytes: usize = entries.iter().map(LogEntry::size).sum();
        let mut rest = subjects.into_iter();
        while bytes < READ_BYTES
            && let Some(subject) = rest.next()
        {
            let found = self.get(&json!({ "last_by_subj": subject })).await?.entries;
            bytes += found.iter().map(LogEntry::size).sum::<usize>();
            entries.extend(found);
        }
        Ok((entries, rest.chain(later).collect()))
    }

    async fn report_loss(&self, last: u64) {
        let subject = self.subjects().ask("lost");
        let _ = self.publish(subject, last.to_string().into()).await;
    }

    async fn append(
        &self,
        end: u64,
        claim: u64,
        messages: Vec<Outgoing>,
    ) -> Result<Appended, AppendError> {
        self.append_behind(end, claim, messages).await
    }
}

/// The answer to a direct get.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<LogEntry>,
    /// The end of the log as the replica knows it; `None` if it has none of the messages.
    up_to: Option<u64>,
}

impl Bus {
    /// The last message of each subject, of a replica that has the log up to this end.
    async fn last_as_of(&self, subjects: &[String], end: u64) -> Result<Vec<LogEntry>, BusError> {
        // A log has a claim, so that no answer is empty: an empty one does not name an end.
        let claim = self.subjects().claim();
        let subjects: Vec<_> = subjects.iter().chain([&claim]).collect();
        let (batch, begun) = (subjects.len(), Instant::now());
        let request = json!({ "multi_last": subjects, "batch": batch, "max_bytes": READ_BYTES });
        loop {
            let Found { entries, up_to } = self.get(&request).await?;
            if up_to.is_none_or(|up_to| up_to >= end) {
                return Ok(entries);
            }
            if begun.elapsed() > LAG_WITHIN {
                return Err(BusError::Unavailable("the replica that answers lags".to_owned()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// One batched direct get.
    async fn get(&self, request: &Value) -> Result<Found, BusError> {
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe(inbox.clone()).await?;
        let (subject, payload) = (self.api("DIRECT.GET"), Bytes::from(request.to_string()));
        let sent = self.client().publish_with_reply(subject, inbox, payload).await;
        sent.map_err(|error| BusError::Unavailable(error.to_string()))?;
        let is_batch = request.get("batch").is_some();
        collect(&mut answers, is_batch).await
    }
}

/// The messages up to the end of a batch (status 204), or the one of a single get.
async fn collect(answers: &mut Subscriber, is_batch: bool) -> Result<Found, BusError> {
    let mut found = Found::default();
    loop {
        let next = tokio::time::timeout(ANSWER_WITHIN, answers.next()).await;
        let Ok(Some(message)) = next else {
            return Err(BusError::Unavailable("no answer to a direct get in time".to_owned()));
        };
        match message.status.map(|status| status.as_u16()) {
            // 204: the end of the batch. 404: no such message.
            Some(204 | 404) => {
                let headers = message.headers.unwrap_or_default();
                let up_to = headers.get_last("Nats-UpTo-Sequence");
                found.up_to = up_to.and_then(|value| value.as_str().parse().ok());
                return Ok(found);
            }
            Some(status) if status != 200 => {
                let reason = message.description.unwrap_or_default();
                return match status {
                    503 => Err(BusError::Unavailable("no replica answers direct gets".to_owned())),
                    _ => Err(BusError::Answer(format!("direct get: {status} {reason}"))),
                };
            }
            _ => found.entries.extend(LogEntry::of(message)),
        }
        if !is_batch {
            return Ok(found);
        }
    }
}
