//! A client of server-sent events that parses them like a browser's `EventSource`.

use std::{
    fmt::{self, Debug, Display},
    pin::Pin,
};

use eventsource_stream::{Event, Eventsource};
use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use super::{WireRound, http::client, within};

/// An open event stream.
pub struct SseClient {
    pub status: u16,
    pub headers: HeaderMap,
    events: Pin<Box<dyn Stream<Item = Option<Event>> + Send>>,
}

impl Debug for SseClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseClient").field("status", &self.status).finish_non_exhaustive()
    }
}

impl SseClient {
    #[track_caller]
    pub fn connect(url: &str) -> impl Future<Output = Self> + use<> {
        Self::connect_with(url, &[])
    }

    /// Connects with `Last-Event-ID`, as after a lost connection.
    #[track_caller]
    pub fn resume(url: &str, last_event_id: impl Display) -> impl Future<Output = Self> {
        Self::connect_with(url, &[("last-event-id", &last_event_id.to_string())])
    }

    /// Connects with these headers. Returns after the response head, without waiting for a round.
    #[track_caller]
    pub fn connect_with(url: &str, headers: &[(&str, &str)]) -> impl Future<Output = Self> + use<> {
        let mut request = client().get(url).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let what = format!("the headers of {url}");
        within(what, async move {
            let response = request.send().await.expect("a response");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let events = response.bytes_stream().eventsource().map(Result::ok);
            Self { status, headers, events: Box::pin(events) }
        })
    }

    /// The next event: its name and its round. Asserts that its id is that of the round,
    /// or that it has none, as a seed before another one.
    #[track_caller]
    pub fn next_event(&mut self) -> impl Future<Output = (String, WireRound)> + use<'_> {
        self.next_event_of()
    }

    /// The next event, with a round id of this type.
    #[track_caller]
    pub fn next_event_of<I: DeserializeOwned + Display>(
        &mut self,
    ) -> impl Future<Output = (String, WireRound<I>)> {
        within("the next event", async move {
            let event = self.events.next().await.flatten().expect("an event");
            let round: WireRound<I> = WireRound::parse_as(&event.data);
            let id = percent_decode_str(&event.id).decode_utf8().expect("UTF-8");
            let is_earlier_seed = event.event == "initial" && id.is_empty();
            assert!(id == round.round_id.to_string() || is_earlier_seed, "the id of {event:?}");
            let is_header_safe = |byte: u8| (0x21..=0x7e).contains(&byte);
            assert!(event.id.bytes().all(is_header_safe), "the id of {event:?}");
            (event.event, round)
        })
    }

    /// The next event: its name and its data, whatever it is.
    #[track_caller]
    pub fn next_raw_event(&mut self) -> impl Future<Output = (String, String)> + use<'_> {
        within("the next event", async move {
            let event = self.events.next().await.flatten().expect("an event");
            (event.event, event.data)
        })
    }

    /// The next events up to the round with this id. Asserts that all are live or replayed rounds.
    #[track_caller]
    pub fn messages_until<I: DeserializeOwned + Debug + Display + PartialEq>(
        &mut self,
        last: I,
    ) -> impl Future<Output = Vec<WireRound<I>>> {
        within(format!("the events up to {last}"), async move {
            let mut rounds: Vec<WireRound<I>> = Vec::new();
            while rounds.last().is_none_or(|round| round.round_id != last) {
                let (name, round) = self.next_event_of().await;
                assert_eq!(name, "message", "{round:?}");
                rounds.push(round);
            }
            rounds
        })
    }

    /// Waits for the end of the body; returns whether it ended cleanly.
    #[track_caller]
    pub fn ends_cleanly(&mut self) -> impl Future<Output = bool> + use<'_> {
        within("the end of the stream", async move {
            loop {
                match self.events.next().await {
                    None => return true,
                    Some(None) => return false,
                    Some(Some(_)) => {}
                }
            }
        })
    }
}
