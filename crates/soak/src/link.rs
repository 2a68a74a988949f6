//! A client's connection to the server, over any transport.

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
    subscribers::Transport,
    testbed::NodeAddress,
    transactions::Token,
    web_transport::{self, Arrivals},
};

/// A server that accepts a connection and does not respond in this time is being killed.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The close code for a resume point that cannot be honored.
const GONE: u16 = 4410;

/// Something that arrived on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    Round {
        initial: bool,
        round_id: i64,
        token: Token,
        /// Whether all rounds before it have arrived too; never after a datagram.
        sure: bool,
    },
    /// The server reported a gap and closed the connection.
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

/// The fields of a round that the check needs.
#[derive(Deserialize)]
struct Wire {
    round_id: i64,
    extras: String,
}

impl Link {
    /// Connects; `None` if the server is down or not ready.
    pub(crate) async fn open(
        transport: Transport,
        address: NodeAddress,
        path: &str,
        after: Option<i64>,
    ) -> Option<Self> {
        let opening = async {
            match transport {
                Transport::WebSocket => websocket(address, path, after).await,
                Transport::Sse => sse(address, path, after).await,
                Transport::WebTransport => {
                    let session = web_transport::open(address, &resuming(path, after)).await;
                    session.map(Self::WebTransport)
                }
            }
        };
        tokio::time::timeout(CONNECT_WITHIN, opening).await.ok().flatten()
    }

    /// The next arrival. Cancel safe.
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

/// Parses a round. A round that cannot be parsed ends the stream and counts as lost.
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

async fn websocket(address: NodeAddress, path: &str, after: Option<i64>) -> Option<Link> {
    let url = format!("ws://{}/ws{}", address.addr, resuming(path, after));
    let (socket, _) = connect_async(url).await.ok()?;
    Some(Link::WebSocket(Box::new(socket)))
}

async fn sse(address: NodeAddress, path: &str, after: Option<i64>) -> Option<Link> {
    let mut request = crate::subscribers::http().get(format!("http://{}/sse{path}", address.addr));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = request.send().await.ok().filter(|answer| answer.status().is_success())?;
    let events = response.bytes_stream().eventsource().map(Result::ok);
    Some(Link::Sse(Box::pin(events)))
}
