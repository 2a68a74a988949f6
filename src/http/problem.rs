//! Error responses: RFC 9457 bodies for every status.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::Serialize;

use super::head;
use crate::stream::feed::FeedError;

/// A server without memory for more asks clients to retry after this time.
const FULL_RETRY_SECONDS: u8 = 5;

/// A refusal: its status, and a text that says what was refused and what to do.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    phase: Option<&'static str>,
    node: Option<String>,
    is_temporary: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members of RFC 9457 section 3.1. With `about:blank`, the title is that of the status.
#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

impl Problem {
    /// A problem with this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            phase: None,
            node: None,
            is_temporary: false,
            headers: Vec::new(),
        }
    }

    /// `400`: the request is malformed.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// `404`.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// `503`, with the seconds after which to retry.
    pub(super) fn unavailable(detail: impl Into<String>, retry_after_seconds: u8) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with(header::RETRY_AFTER, HeaderValue::from(u16::from(retry_after_seconds)))
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds the phase of the listener, for `/readyz`.
    pub(super) fn in_phase(mut self, phase: &'static str) -> Self {
        self.phase = Some(phase);
        self
    }

    /// Adds the name of the server, for the operator.
    pub(super) fn on_node(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Marks a problem that ends by itself: no database, a catch-up, a shutdown, or the rate limit.
    pub(super) fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    /// The reason to send to an `EventSource` that should retry; `None` if a retry would not help.
    pub(super) fn retry_reason(&self) -> Option<&str> {
        self.is_temporary.then_some(&*self.detail)
    }

    fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            phase: self.phase,
            node: self.node.as_deref(),
        }
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match &error {
            FeedError::Unknown(_) | FeedError::NoRound(_) => Self::not_found(error.to_string()),
            FeedError::NotReady | FeedError::TooManyWaiting(_) => {
                Self::unavailable(error.to_string(), 1).temporary()
            }
            FeedError::NoMemory(_) => Self::unavailable(error.to_string(), FULL_RETRY_SECONDS),
            FeedError::Database(cause) => {
                tracing::warn!(error = %cause, "a client's request failed in the database");
                Self::unavailable(error.to_string(), 1).temporary()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

/// The bytes of a refusal without a route, after which the connection ends.
pub(super) fn last_response(status: StatusCode, detail: &str) -> Vec<u8> {
    let problem = Problem::new(status, detail);
    // The body has no field that could fail to be encoded.
    let body = serde_json::to_string(&problem.body()).unwrap_or_default();
    let date = Utc::now().format(head::DATE);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {}\r\n\
         date: {date}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_four_members() {
        let problem = Problem::not_found("there is no game \"x\"");
        let body = serde_json::to_string(&problem.body()).expect("JSON");
        let golden = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no game \"x\""}"#;
        assert_eq!(body, golden);
    }

    #[test]
    fn a_database_failure_is_temporary_and_an_unknown_game_is_not() {
        let away =
            FeedError::from(crate::stream::round_store::StoreError::Unavailable("away".into()));
        assert_eq!(Problem::from(away).retry_reason(), Some("the database could not answer"));
        let unknown = crate::stream::games::UnknownName::Game("chess".into());
        assert_eq!(Problem::from(FeedError::Unknown(unknown)).retry_reason(), None);
    }

    #[test]
    fn a_problem_has_its_content_type_and_retry_after() {
        let response = Problem::from(FeedError::NotReady).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
