//! A round, encoded once and shared by all its subscribers.
//!
//! A frame has two buffers: a WebSocket frame with its header, and an SSE event as a chunk of an
//! HTTP/1.1 body. The JSON is a slice of the first buffer. The event without the chunk (for
//! HTTP/1.0) is a slice of the second. A clone shares both: no bytes are copied per subscriber.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};

use crate::stream::round::{Round, RoundId};

/// The event name of a live or replayed round.
const MESSAGE: &[u8] = b"event: message\n";
/// The event name of the seed of a stream that does not resume.
pub const INITIAL: &[u8] = b"event: initial\n";
/// The field with the JSON.
const DATA: &[u8] = b"data: ";
/// The end of the data line, and the blank line that ends an event.
const EVENT_END: &[u8] = b"\n\n";
/// The line break after the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// A final text frame (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;

/// Encoded in the id of an event, beside all that is not ASCII: `%`, and bytes outside 0x21-0x7E. So
/// `Last-Event-ID` is a valid header, whatever the client does with other bytes.
const EVENT_ID: AsciiSet = CONTROLS.add(b' ').add(b'%');

/// The encodings of one round.
#[derive(Clone, Debug)]
pub struct Frame {
    round_id: RoundId,
    /// The WebSocket frame.
    message: Bytes,
    json_at: u8,
    /// The SSE event as a chunk.
    chunk: Bytes,
    event_at: u8,
}

impl Frame {
    /// Encodes a round. No other function does.
    pub fn encode(round: &Round) -> Self {
        let json = round.to_json();
        let (message, json_at) = text_message(&json);
        let id = format!("id: {}\n", event_id(&round.round_id.to_string()));
        let (chunk, event_at) = chunk(&[MESSAGE, id.as_bytes(), DATA, &json, EVENT_END]);
        Self { round_id: round.round_id.clone(), message, json_at, chunk, event_at }
    }

    /// The id of the encoded round.
    pub fn round_id(&self) -> &RoundId {
        &self.round_id
    }

    /// The size of both buffers in bytes.
    pub fn size(&self) -> usize {
        self.message.len() + self.chunk.len()
    }

    /// The JSON object: the bytes of a datagram and of a response to `GET`.
    pub fn json(&self) -> Bytes {
        self.message.slice(usize::from(self.json_at)..)
    }

    /// The whole WebSocket frame: header and JSON.
    pub fn message(&self) -> Bytes {
        self.message.clone()
    }

    /// `event: message` with id and data, as a chunk: the SSE event of a live or replayed round.
    pub fn message_chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// The same event without the chunk.
    pub fn message_event(&self) -> Bytes {
        self.chunk.slice(usize::from(self.event_at)..self.chunk.len() - CHUNK_END.len())
    }

    /// `event: initial` with id and data: the SSE event of a seed. Copies once per new stream.
    /// Both event names have the same length, so the size of the chunk stays correct.
    pub fn initial_event(&self) -> Bytes {
        renamed(&self.message_event(), 0)
    }

    /// The same event as a chunk.
    pub fn initial_chunk(&self) -> Bytes {
        renamed(&self.chunk, usize::from(self.event_at))
    }

    /// The data line of the event and the blank line after it: a slice, not a copy.
    pub fn data(&self) -> Bytes {
        let end = self.chunk.len() - CHUNK_END.len();
        let size = DATA.len() + self.json().len() + EVENT_END.len();
        self.chunk.slice(end - size..end)
    }
}

const _: () = assert!(MESSAGE.len() == INITIAL.len());

/// A round's id as the id of its event.
fn event_id(round_id: &str) -> PercentEncode<'_> {
    utf8_percent_encode(round_id, &EVENT_ID)
}

/// A server's text frame and the offset of its payload.
fn text_message(json: &[u8]) -> (Bytes, u8) {
    let mut frame = Vec::with_capacity(json.len() + 10);
    web_socket_header(TEXT, json.len(), &mut frame);
    let header = frame.len();
    frame.extend_from_slice(json);
    (frame.into(), header as u8)
}

/// The header of a server's frame: its first byte, then its size in as few bytes as possible
/// (RFC 6455 section 5.2).
pub fn web_socket_header(first: u8, size: usize, into: &mut Vec<u8>) {
    into.push(first);
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(short @ ..126), _) => into.push(short),
        (_, Ok(medium)) => {
            into.push(126);
            into.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            into.push(127);
            into.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
}

/// A chunk of an HTTP/1.1 body (RFC 9112 section 7.1) and the offset of its data.
fn chunk(parts: &[&[u8]]) -> (Bytes, u8) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let header = format!("{size:x}\r\n");
    let mut chunk = Vec::with_capacity(header.len() + size + CHUNK_END.len());
    chunk.extend_from_slice(header.as_bytes());
    parts.iter().for_each(|part| chunk.extend_from_slice(part));
    chunk.extend_from_slice(CHUNK_END);
    (chunk.into(), header.len() as u8)
}

fn renamed(event: &Bytes, at: usize) -> Bytes {
    [&event[..at], INITIAL, &event[at + MESSAGE.len()..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::{FinishedAt, GameId, UnixMillis};

    fn frame(extras: &str) -> Frame {
        Frame::encode(&Round {
            round_id: RoundId::number(7),
            game_id: GameId::number(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: extras.into(),
            timestamp: UnixMillis(1),
        })
    }

    #[test]
    fn an_event_contains_its_name_its_id_and_the_json() {
        let frame = frame("{\"a\": \"line\\nbreak\"}");
        let json = String::from_utf8(frame.json().to_vec()).expect("UTF-8");
        let expected = format!("event: message\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.message_event(), expected.as_bytes());
        let expected = format!("event: initial\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.initial_event(), expected.as_bytes());
        assert_eq!(frame.data(), format!("data: {json}\n\n").as_bytes());
    }

    #[test]
    fn the_id_of_an_event_is_percent_encoded_outside_printable_ascii() {
        for (id, encoded) in [
            ("a b", "a%20b"),
            ("100%", "100%25"),
            ("/:\"'#?&+~!", "/:\"'#?&+~!"),
            ("é\u{2028}", "%C3%A9%E2%80%A8"),
        ] {
            assert_eq!(event_id(id).to_string(), encoded);
        }
    }

    #[test]
    fn a_chunk_contains_its_size_the_event_and_a_line_break() {
        let frame = frame("{}");
        for (chunk, event) in [
            (frame.message_chunk(), frame.message_event()),
            (frame.initial_chunk(), frame.initial_event()),
        ] {
            let size = format!("{:x}\r\n", event.len());
            assert_eq!(chunk, [size.as_bytes(), &event, b"\r\n"].concat());
        }
    }

    #[test]
    fn an_event_has_no_line_break_inside_its_data() {
        let event = frame("{\"a\": \"line\\nbreak\"}").message_event();
        assert_eq!(event.iter().filter(|&&byte| byte == b'\n').count(), 4);
    }

    #[test]
    fn a_websocket_message_has_the_shortest_header_for_its_size() {
        for (size, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 20, 10)]
        {
            let (message, payload) = text_message(&vec![b'x'; size]);
            assert_eq!((usize::from(payload), message.len()), (header, header + size));
            assert_eq!(message[0], TEXT);
        }
        let (message, _) = text_message(&[b'x'; 300]);
        assert_eq!(message[1..4], [126, 1, 44]);
    }

    #[test]
    fn the_json_and_the_event_are_slices_of_the_two_buffers() {
        let frame = frame("{}");
        assert_eq!(frame.json().as_ptr(), frame.message()[2 + 2..].as_ptr());
        let (event, chunk) = (frame.message_event(), frame.message_chunk());
        assert_eq!(event.as_ptr(), chunk[usize::from(frame.event_at)..].as_ptr());
    }
}
