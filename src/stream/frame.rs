//! A round, encoded once and shared by all its subscribers.
//!
//! A frame has one buffer with two parts: a WebSocket frame with its header, and an SSE event as a
//! chunk of an HTTP/1.1 body. The JSON is a slice of the first part. The event without the chunk (for
//! HTTP/1.0) is a slice of the second. A clone shares the buffer: no bytes are copied per subscriber.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};

use crate::{
    ops::{
        memory_budget::{CountedBytes, MemoryBudget},
        telemetry::metrics::MemoryUse,
    },
    stream::round::{Round, RoundId},
};

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
/// The bytes that a round keeps besides its buffer: an entry of a ring buffer and its resume point,
/// three allocations.
pub(crate) const ROUND_OVERHEAD: usize = 384;
/// A frame has the JSON twice.
const ENCODINGS: usize = 2;

/// Encoded in the id of an event, beside all that is not ASCII: `%`, and bytes outside 0x21-0x7E. So
/// `Last-Event-ID` is a valid header, whatever the client does with other bytes.
const EVENT_ID: AsciiSet = CONTROLS.add(b' ').add(b'%');

/// The encodings of one round.
#[derive(Clone, Debug)]
pub struct Frame {
    round_id: RoundId,
    buffer: Bytes,
    /// Where the JSON begins in the buffer.
    json_at: u8,
    /// Where the chunk begins.
    chunk_at: u32,
    /// Where the event begins in the chunk.
    event_at: u8,
}

/// The buffer of a frame, counted until the last reference is dropped.
struct CountedBuffer {
    bytes: Vec<u8>,
    _counted: Arc<CountedBytes>,
}

impl AsRef<[u8]> for CountedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The buffer of a frame that a [`WeakFrame`] finds again.
struct SharedBuffer(Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A frame without its buffer, which it does not keep.
#[derive(Clone, Debug)]
pub(crate) struct WeakFrame {
    /// With an empty buffer.
    frame: Frame,
    bytes: Weak<Vec<u8>>,
}

impl WeakFrame {
    /// The frame, if anything still refers to its buffer.
    pub(crate) fn upgrade(&self) -> Option<Frame> {
        let buffer = Bytes::from_owner(SharedBuffer(self.bytes.upgrade()?));
        Some(Frame { buffer, ..self.frame.clone() })
    }

    /// Whether anything still refers to its buffer.
    pub(crate) fn is_held(&self) -> bool {
        self.bytes.strong_count() > 0
    }
}

/// About the bytes that an encoded round keeps, by those of its JSON.
pub(crate) fn encoded_bytes(json: usize) -> usize {
    ENCODINGS * json + ROUND_OVERHEAD
}

impl Frame {
    /// Encodes a round.
    pub fn encode(round: &Round) -> Self {
        let (mut frame, buffer) = Self::encode_parts(round);
        frame.buffer = buffer.into();
        frame
    }

    /// Encodes a round whose frame another reader of the round may share.
    pub(crate) fn encode_shared(round: &Round) -> (Self, WeakFrame) {
        let (frame, bytes) = Self::encode_parts(round);
        let bytes = Arc::new(bytes);
        let weak = WeakFrame { frame: frame.clone(), bytes: Arc::downgrade(&bytes) };
        (Self { buffer: Bytes::from_owner(SharedBuffer(bytes)), ..frame }, weak)
    }

    /// Encodes a round and counts its bytes among the queues, as long as anything refers to them.
    pub(crate) fn encode_counted(
        round: &Round,
        budget: &MemoryBudget,
    ) -> (Self, Arc<CountedBytes>) {
        let (mut frame, bytes) = Self::encode_parts(round);
        let counted = Arc::new(budget.count(MemoryUse::queues, bytes.len() + ROUND_OVERHEAD));
        let buffer = CountedBuffer { bytes, _counted: Arc::clone(&counted) };
        frame.buffer = Bytes::from_owner(buffer);
        (frame, counted)
    }

    fn encode_parts(round: &Round) -> (Self, Vec<u8>) {
        let json = round.to_json();
        let id = format!("id: {}\n", event_id(&round.round_id.to_string()));
        let mut buffer = Vec::with_capacity(ENCODINGS * json.len() + id.len() + 64);
        web_socket_header(TEXT, json.len(), &mut buffer);
        let json_at = buffer.len() as u8;
        buffer.extend_from_slice(&json);
        let chunk_at = buffer.len() as u32;
        let event_at = append_chunk(&[MESSAGE, id.as_bytes(), DATA, &json, EVENT_END], &mut buffer);
        let (round_id, empty) = (round.round_id.clone(), Bytes::new());
        (Self { round_id, buffer: empty, json_at, chunk_at, event_at }, buffer)
    }

    /// The id of the encoded round.
    pub fn round_id(&self) -> &RoundId {
        &self.round_id
    }

    /// The size of the buffer in bytes.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The size of the JSON object in bytes.
    pub(crate) fn json_size(&self) -> usize {
        self.chunk_at as usize - usize::from(self.json_at)
    }

    /// The JSON object: the bytes of a datagram and of a response to `GET`.
    pub fn json(&self) -> Bytes {
        self.buffer.slice(usize::from(self.json_at)..self.chunk_at as usize)
    }

    /// The whole WebSocket frame: header and JSON.
    pub fn message(&self) -> Bytes {
        self.buffer.slice(..self.chunk_at as usize)
    }

    /// `event: message` with id and data, as a chunk: the SSE event of a live or replayed round.
    pub fn message_chunk(&self) -> Bytes {
        self.buffer.slice(self.chunk_at as usize..)
    }

    /// The same event without the chunk.
    pub fn message_event(&self) -> Bytes {
        let start = self.chunk_at as usize + usize::from(self.event_at);
        self.buffer.slice(start..self.buffer.len() - CHUNK_END.len())
    }

    /// `event: initial` with id and data: the SSE event of a seed, in two parts. The first is the
    /// event's name, the second is shared.
    pub fn initial_event(&self) -> [Bytes; 2] {
        [Bytes::from_static(INITIAL), self.message_event().slice(MESSAGE.len()..)]
    }

    /// The same event as a chunk. Both event names have the same length, so the size of the chunk
    /// stays correct.
    pub fn initial_chunk(&self) -> [Bytes; 2] {
        let chunk = self.message_chunk();
        let event_at = usize::from(self.event_at);
        let start = [&chunk[..event_at], INITIAL].concat().into();
        [start, chunk.slice(event_at + MESSAGE.len()..)]
    }

    /// The data line of the event and the blank line after it: a slice, not a copy.
    pub fn data(&self) -> Bytes {
        let end = self.buffer.len() - CHUNK_END.len();
        let size = DATA.len() + self.json_size() + EVENT_END.len();
        self.buffer.slice(end - size..end)
    }
}

const _: () = assert!(MESSAGE.len() == INITIAL.len());

/// A round's id as the id of its event.
fn event_id(round_id: &str) -> PercentEncode<'_> {
    utf8_percent_encode(round_id, &EVENT_ID)
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

/// Appends a chunk of an HTTP/1.1 body (RFC 9112 section 7.1); returns the offset of its data.
fn append_chunk(parts: &[&[u8]], buffer: &mut Vec<u8>) -> u8 {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let header = format!("{size:x}\r\n");
    buffer.extend_from_slice(header.as_bytes());
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    buffer.extend_from_slice(CHUNK_END);
    header.len() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::{FinishedAt, GameId, UnixMillis};

    fn frame(extras: &str) -> Frame {
        Frame::encode(&round(extras))
    }

    fn round(extras: &str) -> Round {
        Round {
            round_id: RoundId::number(7),
            game_id: GameId::number(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: extras.into(),
            timestamp: UnixMillis(1),
        }
    }

    #[test]
    fn an_event_contains_its_name_its_id_and_the_json() {
        let frame = frame("{\"a\": \"line\\nbreak\"}");
        let json = String::from_utf8(frame.json().to_vec()).expect("UTF-8");
        let expected = format!("event: message\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.message_event(), expected.as_bytes());
        let expected = format!("event: initial\nid: 7\ndata: {json}\n\n");
        assert_eq!(frame.initial_event().concat(), expected.as_bytes());
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
            (frame.initial_chunk().concat().into(), frame.initial_event().concat().into()),
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
            let mut message = Vec::new();
            web_socket_header(TEXT, size, &mut message);
            assert_eq!((message.len(), message[0]), (header, TEXT));
        }
        let mut message = Vec::new();
        web_socket_header(TEXT, 300, &mut message);
        assert_eq!(message[1..4], [126, 1, 44]);
    }

    #[test]
    fn the_json_and_the_event_are_slices_of_the_buffer_and_a_seed_copies_its_head_alone() {
        let frame = frame("{}");
        assert_eq!(frame.json().as_ptr(), frame.message()[2 + 2..].as_ptr());
        assert_eq!(frame.json().len(), frame.json_size());
        let (event, chunk) = (frame.message_event(), frame.message_chunk());
        assert_eq!(event.as_ptr(), chunk[usize::from(frame.event_at)..].as_ptr());
        for [_, rest] in [frame.initial_event(), frame.initial_chunk()] {
            assert_eq!(rest.as_ptr(), event[MESSAGE.len()..].as_ptr());
        }
    }

    #[test]
    fn a_frame_is_found_again_as_long_as_anything_refers_to_its_bytes() {
        let (frame, weak) = Frame::encode_shared(&round("{}"));
        let slice = frame.json();
        drop(frame);
        let again = weak.upgrade().expect("its bytes");
        assert_eq!(
            (again.json().as_ptr(), again.round_id()),
            (slice.as_ptr(), &RoundId::number(7))
        );
        assert_eq!(again.message_event(), self::frame("{}").message_event());
        drop((again, slice));
        assert!(!weak.is_held() && weak.upgrade().is_none());
    }

    #[test]
    fn the_bytes_of_a_round_are_counted_until_nothing_refers_to_them() {
        let budget = MemoryBudget::unlimited();
        let round = Round { extras: "x".repeat(1000).into(), ..round("{}") };
        let (frame, counted) = Frame::encode_counted(&round, &budget);
        let slice = frame.json();
        drop((frame, counted));
        assert!(budget.used(MemoryUse::queues) > 2000);
        drop(slice);
        assert_eq!(budget.used(MemoryUse::queues), 0);
    }
}
