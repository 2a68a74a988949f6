//! A client's connection to the server, on any transport.

use std::{pin::Pin, time::Duration};

use eventsource_stream::{Event, Eventsource};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::{
    ledger::Token,
    stage::Door,
    subscribers::Transport,
    web_transport::{self, Arrivals},
};

/// A server that takes a connection and says nothing is about to be killed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The close code for a resume point that is gone.
const GONE: u16 = 4410;

/// What came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    Round {
        initial: bool,
        round_id: i64,
        token: Token,
        /// Whether everything before it has come too: not so where it came by datagram.
        sure: bool,
    },
    /// The resume point is gone; the connection ended with that word.
    Gap,
    /// The connection ended.
    End,
}

/// An open stream.
pub(crate) enum Link {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Sse(Pin<Box<dyn Stream<Item = Option<Event>> + Send>>),
    WebTransport(Arrivals),
}

/// The part of a round that is looked at.
#[derive(Deserialize)]
struct Wire {
    round_id: i64,
    extras: String,
}

impl Link {
    /// Connects; `None` when the server is away or not ready.
    pub(crate) async fn open(
        transport: Transport,
        door: Door,
        path: &str,
        after: Option<i64>,
    ) -> Option<Self> {
        let opening = async {
            match transport {
                Transport::WebSocket => websocket(door, path, after).await,
                Transport::Sse => sse(door, path, after).await,
                Transport::WebTransport => {
                    let session = web_transport::open(door, &resuming(path, after)).await;
                    session.map(Self::WebTransport)
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, opening).await.ok().flatten()
    }

    /// The next thing that comes. Cancel safe.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self {
            Self::WebSocket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return round(&text, false, true),
                    Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => {
                        return if u16::from(code) == GONE { Arrival::Gap } else { Arrival::End };
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return Arrival::End,
                }
            },
            Self::Sse(events) => match events.next().await.flatten() {
                Some(event) => round(&event.data, event.event == "initial", true),
                None => Arrival::End,
            },
            Self::WebTransport(arrivals) => arrivals.next().await.unwrap_or(Arrival::End),
        }
    }
}

/// A round that cannot be read would be a fault of ours: it ends the stream and is missed later.
pub(crate) fn round(text: &str, initial: bool, sure: bool) -> Arrival {
    let read = serde_json::from_str::<Wire>(text).ok();
    let token = |wire: &Wire| serde_json::from_str::<Token>(&wire.extras).ok();
    match read.and_then(|wire| Some((wire.round_id, token(&wire)?))) {
        Some((round_id, token)) => Arrival::Round { initial, round_id, token, sure },
        None => Arrival::End,
    }
}

/// The path with the resume point in its query.
fn resuming(path: &str, after: Option<i64>) -> String {
    let Some(after) = after else { return path.to_owned() };
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}after={after}")
}

async fn websocket(door: Door, path: &str, after: Option<i64>) -> Option<Link> {
    let url = format!("ws://{}/ws{}", door.addr, resuming(path, after));
    let (socket, _) = connect_async(url).await.ok()?;
    Some(Link::WebSocket(Box::new(socket)))
}

async fn sse(door: Door, path: &str, after: Option<i64>) -> Option<Link> {
    let mut request = crate::subscribers::http().get(format!("http://{}/sse{path}", door.addr));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = request.send().await.ok().filter(|answer| answer.status().is_success())?;
    let events = response.bytes_stream().eventsource().map(Result::ok);
    Some(Link::Sse(Box::pin(events)))
}
