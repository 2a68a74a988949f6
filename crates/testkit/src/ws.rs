//! A WebSocket client.

use std::{fmt::Display, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
    },
};

use super::{WireRound, within};

/// An open WebSocket.
#[derive(Debug)]
pub struct WsClient {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl WsClient {
    /// Connects; panics if the handshake is refused.
    #[track_caller]
    pub fn connect(url: impl Into<String>) -> impl Future<Output = Self> {
        let url = url.into();
        within(format!("a handshake with {url}"), async move {
            Self::try_connect(&url, &[]).await.unwrap_or_else(|status| panic!("{url}: {status}"))
        })
    }

    /// Connects with these headers; returns the status if the handshake is refused.
    pub async fn try_connect(url: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        Self::try_connect_by(url, headers, None).await
    }

    /// The same with TLS of this configuration.
    pub async fn try_connect_by(
        url: &str,
        headers: &[(&str, &str)],
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, u16> {
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        let connector = tls.map(Connector::Rustls);
        match connect_async_tls_with_config(request, None, false, connector).await {
            Ok((stream, _response)) => Ok(Self { stream }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// The next round. The library answers pings.
    #[track_caller]
    pub fn next_round(&mut self) -> impl Future<Output = WireRound> + use<'_> {
        self.next_round_of()
    }

    /// The next round, with ids of these types.
    #[track_caller]
    pub fn next_round_of<I: DeserializeOwned, G: DeserializeOwned>(
        &mut self,
    ) -> impl Future<Output = WireRound<I, G>> {
        within("the next round", async move {
            match self.next_message().await {
                Ok(Message::Text(text)) => WireRound::parse_as(&text),
                other => panic!("not a round: {other:?}"),
            }
        })
    }

    /// The text of the next round, whose ids may be strings.
    #[track_caller]
    pub fn next_text(&mut self) -> impl Future<Output = String> + use<'_> {
        within("the next round", async move {
            match self.next_message().await {
                Ok(Message::Text(text)) => text.to_string(),
                other => panic!("not a round: {other:?}"),
            }
        })
    }

    /// The next rounds.
    #[track_caller]
    pub fn rounds(&mut self, count: usize) -> impl Future<Output = Vec<WireRound>> + use<'_> {
        within(format!("{count} rounds"), async move {
            let mut rounds = Vec::with_capacity(count);
            while rounds.len() < count {
                rounds.push(self.next_round().await);
            }
            rounds
        })
    }

    /// Rounds up to and including the one with this id.
    #[track_caller]
    pub fn rounds_until<I: DeserializeOwned + Display + PartialEq>(
        &mut self,
        last: I,
    ) -> impl Future<Output = Vec<WireRound<I>>> {
        within(format!("the rounds up to {last}"), async move {
            let mut rounds: Vec<WireRound<I>> = Vec::new();
            loop {
                rounds.push(self.next_round_of().await);
                if rounds.last().is_some_and(|round| round.round_id == last) {
                    return rounds;
                }
            }
        })
    }

    /// Waits for a ping.
    #[track_caller]
    pub fn ping(&mut self) -> impl Future<Output = ()> + use<'_> {
        within("a ping", async move {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Ping(_))) => return,
                    Some(Ok(_)) => {}
                    other => panic!("no ping but {other:?}"),
                }
            }
        })
    }

    /// Waits for the close frame and skips rounds before it; returns its code, or `None` if the
    /// connection ended without one.
    #[track_caller]
    pub fn close_code(&mut self) -> impl Future<Output = Option<u16>> + use<'_> {
        within("a close frame", async move {
            loop {
                match self.next_message().await {
                    Ok(Message::Close(Some(frame))) => return Some(frame.code.into()),
                    Ok(Message::Close(None)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
    }

    /// The next round, or the code with which the stream ends, if there is one. Without a time limit: for
    /// a task beside a test that has one.
    pub async fn next_round_or_code(&mut self) -> Result<WireRound, Option<u16>> {
        match self.next_message().await {
            Ok(Message::Text(text)) => Ok(WireRound::parse_as(&text)),
            Ok(Message::Close(frame)) => Err(frame.map(|frame| frame.code.into())),
            Ok(_) | Err(_) => Err(None),
        }
    }

    /// Sends a message; returns whether that succeeded.
    pub async fn send(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    /// Closes the connection with a close frame.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("a close");
    }

    async fn next_message(&mut self) -> Result<Message, Option<Error>> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(Some(error)),
                None => return Err(None),
            }
        }
    }
}
