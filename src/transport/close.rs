//! Why a stream ends: each reason with its close code, text and metric label.
//!
//! There is no 1006: RFC 6455 section 7.4.1 forbids sending it. Clients report it themselves if the
//! connection breaks.

use crate::{access::Lapse, ops::telemetry::metrics::Closed};

/// Why the server, or the client, ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed, or its connection broke.
    Client,
    /// The process is stopping.
    ShuttingDown,
    /// An edge cannot go on from its place in the log. Another server may.
    PlaceLost,
    /// The client broke the WebSocket protocol.
    Protocol,
    /// The client sent a text message that is not UTF-8.
    NotUtf8,
    /// The client sent a message above the size limit.
    TooLarge,
    /// The client sent more than 64 KiB in a second.
    Flooding,
    /// The server failed.
    Failed,
    /// The ring buffers no longer hold the client's next round, its socket accepts too few bytes, or
    /// the memory for queues is used up.
    TooSlow,
    /// The client left two pings without a pong.
    NoPong,
    /// Rounds after the resume point are no longer stored.
    Gap,
    /// The token has expired.
    TokenExpired,
    /// The token's key was withdrawn.
    KeyWithdrawn,
}

impl CloseReason {
    /// The close code of a WebSocket or of a WebTransport `bye`.
    pub fn code(self) -> u16 {
        match self {
            Self::Client => 1000,
            Self::ShuttingDown | Self::PlaceLost => 1001,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::Flooding => 1008,
            Self::TooLarge => 1009,
            Self::Failed => 1011,
            // One code, because the advice to the client is the same.
            Self::TooSlow | Self::NoPong => 1013,
            Self::TokenExpired | Self::KeyWithdrawn => 4401,
            Self::Gap => 4410,
        }
    }

    /// The reason text, which says what to do. A close frame holds at most 123 bytes of it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Client => "",
            Self::ShuttingDown => "the server is shutting down: reconnect",
            Self::PlaceLost => "the server lost its place in the stream: reconnect with after",
            Self::Protocol => "not a valid WebSocket frame",
            Self::NotUtf8 => "a text message must be UTF-8",
            Self::TooLarge => "messages of more than 4096 bytes are not read",
            Self::Flooding => "more than 64 KiB in a second: send less",
            Self::Failed => "the server failed: retry with backoff",
            Self::TooSlow => "too slow to keep up: reconnect with after",
            Self::NoPong => "two pings without an answer: reconnect with after",
            Self::Gap => "the resume point is gone: reconnect without after",
            Self::TokenExpired => "the token has expired: reconnect with a new one and after",
            Self::KeyWithdrawn => {
                "the token's key was withdrawn: reconnect with a new token and after"
            }
        }
    }

    /// The last message of an event stream and of WebTransport, as JSON: code and text.
    pub(super) fn members(self) -> String {
        format!(r#""code":{},"reason":"{}""#, self.code(), self.text())
    }

    /// The label of `sessions_closed_total`.
    pub fn label(self) -> Closed {
        match self {
            Self::Client | Self::Protocol | Self::NotUtf8 => Closed::client,
            Self::ShuttingDown => Closed::shutdown,
            Self::PlaceLost => Closed::place_lost,
            Self::Flooding => Closed::flooding,
            Self::TooLarge => Closed::too_large,
            Self::Failed => Closed::failed,
            Self::TooSlow => Closed::too_slow,
            Self::NoPong => Closed::no_pong,
            Self::Gap => Closed::gap,
            Self::TokenExpired => Closed::token_expired,
            Self::KeyWithdrawn => Closed::key_withdrawn,
        }
    }
}

impl From<Lapse> for CloseReason {
    fn from(lapse: Lapse) -> Self {
        match lapse {
            Lapse::Expired => Self::TokenExpired,
            Lapse::KeyWithdrawn => Self::KeyWithdrawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CloseReason; 13] = [
        CloseReason::Client,
        CloseReason::ShuttingDown,
        CloseReason::PlaceLost,
        CloseReason::Protocol,
        CloseReason::NotUtf8,
        CloseReason::TooLarge,
        CloseReason::Flooding,
        CloseReason::Failed,
        CloseReason::TooSlow,
        CloseReason::NoPong,
        CloseReason::Gap,
        CloseReason::TokenExpired,
        CloseReason::KeyWithdrawn,
    ];

    #[test]
    fn rfc_6455_allows_sending_every_code() {
        for reason in ALL {
            let code = reason.code();
            assert!(!matches!(code, 1004..=1006 | 1015), "{reason:?} sends {code}");
            assert!((1000..=1015).contains(&code) || (4000..=4999).contains(&code), "{code}");
        }
    }

    #[test]
    fn every_reason_text_fits_a_close_frame() {
        for reason in ALL {
            assert!(reason.text().len() <= 123, "{reason:?}");
        }
    }
}
