//! Requests to JetStream's API, as JSON. The client library's own JetStream module is not used: it
//! knows no atomic batch and no batched direct get, which is all that this log needs.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{connect::BusError, options::BusConfig};
use crate::stream::bus::subject::Subjects;

/// An answer takes milliseconds. Requests to a node that was killed are never answered: what asks
/// tries again. An election of the stream's leader takes up to 9 s.
pub(in crate::stream::bus) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// JetStream's error for a stream that does not exist.
const STREAM_NOT_FOUND: u64 = 10059;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    client: Client,
    stream: String,
    api: String,
    subjects: Subjects,
}

impl Bus {
    /// The log of these options, over this connection.
    pub(crate) fn new(client: Client, options: &BusConfig) -> Self {
        let api = match &options.domain {
            Some(domain) => format!("$JS.{domain}.API"),
            None => "$JS.API".to_owned(),
        };
        let subjects = Subjects::new(&options.prefix);
        Self { client, stream: options.stream.clone(), api, subjects }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// The first tokens of every subject.
    pub(crate) fn prefix(&self) -> &str {
        self.subjects.prefix()
    }

    /// The version of the server.
    pub(crate) fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// Whether the server asks for credentials.
    pub(crate) fn requires_credentials(&self) -> bool {
        self.client.server_info().auth_required
    }

    pub(in crate::stream::bus) fn own_subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// A subject of the API that ends with the stream's name.
    pub(in crate::stream::bus) fn api(&self, action: &str) -> String {
        format!("{}.{action}.{}", self.api, self.stream)
    }

    /// Sends a request of the API and decodes its answer.
    pub(in crate::stream::bus) async fn call<T: DeserializeOwned>(
        &self,
        action: &str,
        request: &Value,
    ) -> Result<T, BusError> {
        let payload = if request.is_null() { Bytes::new() } else { request.to_string().into() };
        let answer = self.request(self.api(action), None, payload).await?;
        self.decode(&answer.payload)
    }

    /// One request, one answer.
    pub(in crate::stream::bus) async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, BusError> {
        let mut request = async_nats::Request::new().payload(payload).timeout(Some(ANSWER_WITHIN));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answered = self.client.send_request(subject, request).await;
        answered.map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits until all that was sent is on the wire.
    pub(crate) async fn flush(&self) {
        // A connection that is gone has nothing to flush.
        let _ = tokio::time::timeout(ANSWER_WITHIN, self.client.flush()).await;
    }

    /// The JSON of an answer, or the error in it.
    pub(in crate::stream::bus) fn decode<T: DeserializeOwned>(
        &self,
        answer: &[u8],
    ) -> Result<T, BusError> {
        let value: Value = serde_json::from_slice(answer)
            .map_err(|error| BusError::Answer(format!("unreadable JSON ({error})")))?;
        if let Some(error) = value.get("error") {
            return Err(match error.get("err_code").and_then(Value::as_u64) {
                Some(STREAM_NOT_FOUND) => BusError::NoStream(self.stream.clone()),
                _ => BusError::Answer(error.to_string()),
            });
        }
        serde_json::from_value(value).map_err(|error| BusError::Answer(error.to_string()))
    }

    /// Everything that comes on this subject from now on.
    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed.map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Sends without an answer.
    pub(crate) async fn publish(&self, subject: String, payload: Bytes) -> Result<(), BusError> {
        let sent = self.client.publish(subject, payload).await;
        sent.map_err(|error| BusError::Unavailable(error.to_string()))
    }
}
