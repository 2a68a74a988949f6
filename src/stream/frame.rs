//! A round encoded once, shared by everyone it is sent to.
//!
//! Each protocol gets its bytes whole: a WebSocket frame with its header, and an SSE event as a
//! chunk of an HTTP/1.1 body. The JSON is a slice of the former, the event without the chunk (for
//! HTTP/1.0) one of the latter. Clones count references, nothing is copied per subscriber.

use bytes::Bytes;

use crate::stream::round::{Round, RoundId};

/// The event name of a live or replayed round.
const MESSAGE: &[u8] = b"event: message\n";
/// The event name of the round that starts a stream which was not resumed.
const INITIAL: &[u8] = b"event: initial\n";
/// What ends the data of a chunk.
const CHUNK_END: &[u8] = b"\r\n";
/// A final text frame (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;

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
    /// Encodes a round: the only place where a round becomes bytes.
    pub fn encode(round: &Round) -> Self {
        let json = round.to_json();
        let (message, json_at) = text_message(&json);
        let id = format!("id: {}\ndata: ", round.round_id);
        let (chunk, event_at) = chunk(&[MESSAGE, id.as_bytes(), &json, b"\n\n"]);
        Self { round_id: round.round_id, message, json_at, chunk, event_at }
    }

    /// The round these bytes tell of.
    pub fn round_id(&self) -> RoundId {
        self.round_id
    }

    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        self.message.len() + self.chunk.len()
    }

    /// The JSON object: a datagram, an answer to a read.
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

    /// The same without the chunk around it.
    pub fn message_event(&self) -> Bytes {
        self.chunk.slice(usize::from(self.event_at)..self.chunk.len() - CHUNK_END.len())
    }

    /// `event: initial` with id and data: the SSE event of a seed. Copies, once per new stream.
    /// The name is as long as that of a message, so that the chunk's size stays right.
    pub fn initial_event(&self) -> Bytes {
        renamed(&self.message_event(), 0)
    }

    /// The same as a chunk.
    pub fn initial_chunk(&self) -> Bytes {
        renamed(&self.chunk, usize::from(self.event_at))
    }
}

const _: () = assert!(MESSAGE.len() == INITIAL.len());

/// A server's text frame, and where its payload begins.
fn text_message(json: &[u8]) -> (Bytes, u8) {
    let mut frame = Vec::with_capacity(json.len() + 10);
    web_socket_header(TEXT, json.len(), &mut frame);
    let header = frame.len();
    frame.extend_from_slice(json);
    (frame.into(), header as u8)
}

/// The header of a server's frame: its first byte, then its size in as few bytes as it takes.
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

/// A chunk of an HTTP/1.1 body (RFC 9112 section 7.1), and where its data begin.
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
            round_id: RoundId(7),
            game_id: GameId(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: extras.into(),
            timestamp: UnixMillis(1),
        })
    }

    #[test]
    fn an_event_is_the_json_with_its_name_and_id() {
        let frame = frame("{\"a\": \"line\\nbreak\"}");
        let json = String::from_utf8(frame.json().to_vec()).expect("UTF-8");
        let expected = format!("event: message\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.message_event(), expected.as_bytes());
        let expected = format!("event: initial\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.initial_event(), expected.as_bytes());
    }

    #[test]
    fn a_chunk_is_its_size_its_event_and_a_line_break() {
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
    fn a_message_of_any_size_has_the_shortest_header() {
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
    fn all_encodings_of_a_round_share_their_bytes() {
        let frame = frame("{}");
        assert_eq!(frame.json().as_ptr(), frame.message()[2 + 2..].as_ptr());
        let (event, chunk) = (frame.message_event(), frame.message_chunk());
        assert_eq!(event.as_ptr(), chunk[usize::from(frame.event_at)..].as_ptr());
    }
}
