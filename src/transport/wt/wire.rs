//! The messages of a session: datagrams, replay lines, `gap` and `bye`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    stream::{frame::Frame, hub::Opening},
    transport::{BATCH_BYTES, close::CloseReason},
};

/// The datagram send buffer: about 230 rounds. It bounds the memory of a session that reads
/// nothing, and the age of its rounds. The library's default of 1 MiB would hold the rounds of
/// minutes.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The most unacknowledged bytes on the streams of a session: its opening and large rounds.
pub(super) const STREAMS_BYTES: usize = 256 * 1024;
/// The most bytes of a datagram: the largest packet that the library tries (quinn,
/// `MtuDiscoveryConfig::upper_bound`).
const DATAGRAM_BYTES_MAX: usize = 1452;
/// `H3_NO_ERROR` (RFC 9114 section 8.1).
pub(super) const H3_NO_ERROR: u32 = 0x100;
/// Sent if rounds after the resume point are no longer stored; the seed follows.
pub(super) const GAP: Bytes = Bytes::from_static(br#"{"type":"gap"}"#);
/// A datagram starts with its session id divided by four (RFC 9297 section 2.1). Every browser
/// opens the session on its first stream, and the id of that is 0.
const FIRST_SESSION: u8 = 0;

/// A round as one QUIC datagram, encoded once for all sessions of a topic.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    /// With the prefix for session id 0; `None` if no datagram is so large.
    pub(super) first: Option<Bytes>,
    /// Without a prefix.
    pub(super) json: Bytes,
}

impl From<&Frame> for Datagram {
    fn from(frame: &Frame) -> Self {
        let json = frame.json();
        if json.len() >= DATAGRAM_BYTES_MAX {
            // A slice of the frame, where a copy of 100 rounds could take 100 MiB.
            return Self { first: None, json };
        }
        let mut first = BytesMut::with_capacity(1 + json.len());
        first.put_u8(FIRST_SESSION);
        first.put_slice(&json);
        let first = first.freeze();
        Self { json: first.slice(1..), first: Some(first) }
    }
}

/// The bytes of an opening that the library holds at most until the client has acknowledged them.
pub(crate) fn opening_bytes(opening: &Opening, has_stored: bool) -> usize {
    let frames = match opening {
        Opening::Seed(seeds) | Opening::Gap(seeds) => &seeds.frames,
        Opening::Resumed(resumed) => &resumed.frames,
    };
    let stored = if has_stored { STREAMS_BYTES } else { 0 };
    let bytes = frames.iter().map(Frame::json_size).sum::<usize>() + stored;
    bytes.min(STREAMS_BYTES)
}

/// The message before the server closes a session.
pub(super) fn bye(reason: CloseReason) -> Bytes {
    format!(r#"{{"type":"bye",{}}}"#, reason.members()).into()
}

/// Rounds as lines, joined into writes of a bounded size.
pub(super) fn lines(frames: &[Frame]) -> impl Iterator<Item = Bytes> + Send + '_ {
    let mut frames = frames.iter().peekable();
    std::iter::from_fn(move || {
        frames.peek()?;
        let mut joined = BytesMut::new();
        while let Some(frame) = frames.next_if(|_| joined.len() < BATCH_BYTES) {
            joined.put_slice(&frame.json());
            joined.put_u8(b'\n');
        }
        Some(joined.freeze())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bye_is_a_json_object_with_code_and_reason() {
        for reason in [CloseReason::ShuttingDown, CloseReason::TooSlow, CloseReason::KeyWithdrawn] {
            let message: serde_json::Value = serde_json::from_slice(&bye(reason)).expect("JSON");
            assert_eq!(message["type"], "bye");
            assert_eq!(message["code"], reason.code());
            assert_eq!(message["reason"], reason.text());
        }
    }
}
