//! A round encoded once, shared by everyone it is sent to.
//!
//! One buffer holds a round as a whole SSE event; the WebSocket message and the datagram are its
//! JSON, a slice of the same bytes. Clones count references, nothing is copied per subscriber.

use bytes::Bytes;

use crate::round::{Round, RoundId};

/// The event name of a live or replayed round.
const MESSAGE: &[u8] = b"event: message\n";
/// The event name of the round that starts a stream which was not resumed.
const INITIAL: &[u8] = b"event: initial\n";

/// The encodings of one round.
#[derive(Clone, Debug)]
pub struct Frame {
    round_id: RoundId,
    event: Bytes,
    json: Bytes,
}

impl Frame {
    /// Encodes a round: the only place where a round becomes bytes.
    pub fn encode(round: &Round) -> Self {
        let json = round.to_json();
        let id = round.round_id;
        let mut event = Vec::with_capacity(json.len() + 64);
        event.extend_from_slice(MESSAGE);
        event.extend_from_slice(format!("id: {id}\ndata: ").as_bytes());
        let start = event.len();
        event.extend_from_slice(&json);
        event.extend_from_slice(b"\n\n");
        let event = Bytes::from(event);
        Self { round_id: id, json: event.slice(start..event.len() - 2), event }
    }

    /// The round these bytes tell of.
    pub fn round_id(&self) -> RoundId {
        self.round_id
    }

    /// The JSON object: a WebSocket text message, a datagram.
    pub fn json(&self) -> Bytes {
        self.json.clone()
    }

    /// `event: message` with id and data: the SSE event of a live or replayed round.
    pub fn message_event(&self) -> Bytes {
        self.event.clone()
    }

    /// `event: initial` with id and data: the SSE event of a seed. Copies, once per new stream.
    pub fn initial_event(&self) -> Bytes {
        [INITIAL, &self.event[MESSAGE.len()..]].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::{FinishedAt, GameId, UnixMillis};

    fn frame() -> Frame {
        Frame::encode(&Round {
            round_id: RoundId(7),
            game_id: GameId(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: "{\"a\": \"line\\nbreak\"}".into(),
            timestamp: UnixMillis(1),
        })
    }

    #[test]
    fn an_event_is_the_json_with_its_name_and_id() {
        let json = String::from_utf8(frame().json().to_vec()).expect("UTF-8");
        let expected = format!("event: message\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame().message_event(), expected.as_bytes());
        let expected = format!("event: initial\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame().initial_event(), expected.as_bytes());
    }

    #[test]
    fn an_event_has_no_line_break_inside_its_data() {
        assert_eq!(frame().message_event().iter().filter(|&&byte| byte == b'\n').count(), 4);
    }
}
