//! Appends to the log behind a known end: one message, or an atomic batch (ADR-50).

use serde::Deserialize;
use serde_json::Value;

use super::{connect::BusError, request::Bus};
use crate::stream::bus::outgoing::Outgoing;

/// Messages of one batch (ADR-50).
pub(crate) const BATCH_MESSAGES: usize = 1_000;
/// Bytes of one batch: a batch must be complete within 10 s (ADR-50).
pub(crate) const BATCH_BYTES: usize = 4 << 20;

/// JetStream's errors for an expected sequence that is not the last one.
const WRONG_LAST_SEQUENCE: [u64; 2] = [10071, 10164];

const EXPECTED: &str = "Nats-Expected-Last-Sequence";
const EXPECTED_CLAIM: &str = "Nats-Expected-Last-Subject-Sequence";
const CLAIM_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// The sequence of the last message of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Appended {
    pub(crate) seq: u64,
}

/// Why an append did not take place, as far as one knows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has another end: somebody else appended, or NATS lost its tail.
    #[error("the log has another end")]
    OtherEnd,
    /// No answer: the append may have taken place.
    #[error(transparent)]
    Unknown(#[from] BusError),
}

impl Bus {
    /// Appends all messages or none, behind the sequence `end`. At most [`BATCH_MESSAGES`].
    pub(in crate::stream::bus) async fn append_behind(
        &self,
        end: u64,
        claim: u64,
        messages: Vec<Outgoing>,
    ) -> Result<Appended, AppendError> {
        let is_batch = messages.len() > 1;
        let (id, last) = (format!("{:016x}", fastrand::u64(..)), messages.len());
        for (index, mut message) in messages.into_iter().enumerate() {
            if index == 0 {
                message.headers.insert(EXPECTED, end.to_string());
                message.headers.insert(EXPECTED_CLAIM, claim.to_string());
                message.headers.insert(CLAIM_SUBJECT, self.own_subjects().claim());
            }
            if is_batch {
                message.headers.insert(BATCH_ID, id.as_str());
                message.headers.insert(BATCH_SEQUENCE, (index + 1).to_string());
            }
            if index + 1 == last {
                return self.finish(is_batch, message).await;
            }
            let Outgoing { subject, headers, payload } = message;
            let sent = self.client().publish_with_headers(subject, headers, payload).await;
            sent.map_err(|error| BusError::Unavailable(error.to_string()))?;
        }
        Ok(Appended { seq: end })
    }

    /// Sends the last message, whose answer is that of the whole.
    async fn finish(&self, is_batch: bool, mut message: Outgoing) -> Result<Appended, AppendError> {
        if is_batch {
            message.headers.insert(BATCH_COMMIT, "1");
        }
        let Outgoing { subject, headers, payload } = message;
        let answer = self.request(subject, Some(headers), payload).await?;
        match serde_json::from_slice::<Value>(&answer.payload) {
            Ok(value) if has_wrong_end(&value) => Err(AppendError::OtherEnd),
            _ => Ok(self.decode(&answer.payload)?),
        }
    }
}

fn has_wrong_end(answer: &Value) -> bool {
    let code = answer.pointer("/error/err_code").and_then(Value::as_u64);
    code.is_some_and(|code| WRONG_LAST_SEQUENCE.contains(&code))
}
