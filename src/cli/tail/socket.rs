//! One WebSocket connection to a server: its address, its messages, and how it ended.

use std::{fmt, str::FromStr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, Request, Response, header::AUTHORIZATION},
    },
};

use crate::stream::round::RoundId;

/// Limit for name resolution, connection and handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The ping interval. A server that sends nothing for two intervals counts as lost.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Close code: the server no longer has the rounds after the resume point.
const GAP: u16 = 4410;
/// Close code: policy violation (RFC 6455), which the server sends for a refusal.
const NOT_ALLOWED: u16 = 1008;

/// A server: `http://host:port`, with a path if a proxy serves it below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    secure: bool,
    rest: String,
}

/// A token. Prints as stars.
#[derive(Clone)]
pub struct BearerToken(String);

impl From<String> for BearerToken {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl BearerToken {
    /// The value of `Authorization`. The error does not quote the token.
    fn header(&self) -> Result<HeaderValue, End> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.0.trim()));
        let mut value = value.map_err(|_| {
            End::Refused("--token (DATASTREAM_TOKEN) has characters that no token has".to_owned())
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn request(url: &str, token: Option<&BearerToken>) -> Result<Request<()>, End> {
    let request = url.into_client_request();
    let mut request = request.map_err(|error| End::Refused(error.to_string()))?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.header()?);
    }
    Ok(request)
}

/// How a connection ended, or why it failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Reconnecting cannot help: an unknown game, a refusal, or another kind of server.
    Refused(String),
    /// Reconnecting may help.
    Lost(String),
    /// The server no longer has the rounds after the resume point.
    Gap,
}

/// A connection.
pub(super) struct RoundSocket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    ping_timer: Interval,
    received: bool,
}

impl RoundSocket {
    /// Connects. A refusal has the server's explanation.
    pub(super) async fn open(url: &str, token: Option<&BearerToken>) -> Result<Self, End> {
        let request = request(url, token)?;
        match timeout(CONNECT_TIMEOUT, connect_async(request)).await {
            Ok(Ok((socket, _))) => {
                let mut ping_timer = interval(PING_EVERY);
                ping_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ping_timer.reset();
                Ok(Self { socket, ping_timer, received: true })
            }
            Ok(Err(Error::Http(response))) => Err(refusal(&response)),
            Ok(Err(Error::Url(error))) => Err(End::Refused(error.to_string())),
            Ok(Err(error)) => Err(End::Lost(error.to_string())),
            Err(_) => Err(End::Lost("no answer within 10 s".to_owned())),
        }
    }

    /// The text of the next round.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            tokio::select! {
                _ = self.ping_timer.tick() => self.ping().await?,
                message = self.socket.next() => {
                    self.received = true;
                    match message {
                        Some(Ok(Message::Text(text))) => return Ok(text),
                        Some(Ok(Message::Close(frame))) => {
                            let frame = frame.map(|frame| (frame.code.into(), frame.reason));
                            return Err(closed(frame));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(End::Lost(error.to_string())),
                        None => return Err(End::Lost("the connection was lost".to_owned())),
                    }
                }
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if !std::mem::take(&mut self.received) {
            return Err(End::Lost("the server does not answer pings".to_owned()));
        }
        let ping = self.socket.send(Message::Ping(Bytes::new())).await;
        ping.map_err(|error| End::Lost(error.to_string()))
    }
}

fn closed(frame: Option<(u16, Utf8Bytes)>) -> End {
    match frame {
        Some((GAP, _)) => End::Gap,
        Some((NOT_ALLOWED, reason)) => End::Refused(reason.to_string()),
        Some((code, reason)) => End::Lost(format!("closed by the server with {code} {reason}")),
        None => End::Lost("closed by the server".to_owned()),
    }
}

/// A problem's explanation (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> End {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let problem = serde_json::from_slice(body).map(|problem: Problem| problem.detail);
    let reason = problem.unwrap_or_else(|_| status.to_string());
    // 425 and 429 are temporary, and so is every 5xx of a proxy while the server restarts.
    let temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    if temporary { End::Lost(reason) } else { End::Refused(reason) }
}

impl Address {
    /// The URL of a selection's stream.
    pub(super) fn stream(
        &self,
        game: Option<&str>,
        kind: Option<&str>,
        after: Option<&RoundId>,
    ) -> String {
        let path = match (game, kind) {
            (None, None) => "/ws".to_owned(),
            (Some(game), None) => format!("/ws/{}", encode(game)),
            (None, Some(kind)) => format!("/ws/type/{}", encode(kind)),
            (Some(game), Some(kind)) => {
                format!("/ws?game={}&type={}", encode(game), encode(kind))
            }
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        let after = after.map(|after| format!("{mark}after={}", encode(&after.to_string())));
        let after = after.unwrap_or_default();
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{path}{after}", self.rest)
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be a URL such as http://localhost:3000";
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(EXPECTED),
        };
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() || rest.contains(['?', '#', '@', ' ']) {
            return Err(EXPECTED);
        }
        Ok(Self { secure, rest: rest.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.secure { "s" } else { "" }, self.rest)
    }
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_becomes_the_address_of_its_stream() {
        let address: Address = "https://host/below/".parse().expect("an address");
        assert_eq!(address.stream(None, None, None), "wss://host/below/ws");
        assert_eq!(
            address.stream(Some("a/b"), None, Some(&RoundId::number(7))),
            "wss://host/below/ws/a%2Fb?after=7"
        );
        assert_eq!(address.stream(None, Some("é"), None), "wss://host/below/ws/type/%C3%A9");
        let odd = RoundId::text("a \"/%:é").expect("an id");
        let both = "localhost:3000".parse::<Address>().expect("an address");
        let url = both.stream(Some("a"), Some("b"), Some(&odd));
        assert_eq!(url, "ws://localhost:3000/ws?game=a&type=b&after=a%20%22%2F%25%3A%C3%A9");
    }

    #[test]
    fn an_address_that_is_not_a_server_is_refused() {
        for text in ["", "ftp://host", "http://", "http://host/?x"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_has_the_detail_of_the_problem() {
        let answer = |status: u16, body: &str| {
            let response = Response::builder().status(status).body(Some(body.into()));
            refusal(&response.expect("a response"))
        };
        let problem = r#"{"type":"about:blank","detail":"there is no game x"}"#;
        assert_eq!(answer(404, problem), End::Refused("there is no game x".to_owned()));
        assert_eq!(answer(404, "{"), End::Refused("404 Not Found".to_owned()));
        assert_eq!(answer(503, ""), End::Lost("503 Service Unavailable".to_owned()));
    }
}
