//! What is sent beside rounds, and how a round becomes a datagram.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    stream::frame::Frame,
    transport::{BATCH_BYTES, close::CloseReason},
};

/// Bounds what a session that takes nothing holds, and how old its rounds get. The library's
/// 1 MiB would keep the rounds of minutes for it; this is about 230 rounds.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// "No error" of HTTP/3 (RFC 9114 section 8.1).
pub(super) const H3_NO_ERROR: u32 = 0x100;
/// Told when a resume point cannot be honored; the seed follows.
pub(super) const GAP: Bytes = Bytes::from_static(br#"{"type":"gap"}"#);
/// A datagram begins with a quarter of its session's id (RFC 9297 section 2.1). The first stream
/// that a client opens is 0, and so is the session on it, in every browser.
const FIRST_SESSION: u8 = 0;

/// A round as one QUIC datagram, made once for all sessions of a room.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    /// With the prefix of the first session of a connection.
    pub(super) first: Bytes,
    /// Without it.
    pub(super) json: Bytes,
}

impl From<&Frame> for Datagram {
    fn from(frame: &Frame) -> Self {
        let json = frame.json();
        let mut first = BytesMut::with_capacity(1 + json.len());
        first.put_u8(FIRST_SESSION);
        first.put_slice(&json);
        let first = first.freeze();
        Self { json: first.slice(1..), first }
    }
}

/// The last words to a session.
pub(super) fn bye(reason: CloseReason) -> Bytes {
    let (code, text) = (reason.code(), reason.text());
    format!(r#"{{"type":"bye","code":{code},"reason":"{text}"}}"#).into()
}

/// Rounds, one a line, joined to writes of a bounded size.
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
        for reason in [CloseReason::ShuttingDown, CloseReason::TooSlow, CloseReason::Failed] {
            let told: serde_json::Value = serde_json::from_slice(&bye(reason)).expect("JSON");
            assert_eq!(told["type"], "bye");
            assert_eq!(told["code"], reason.code());
            assert_eq!(told["reason"], reason.text());
        }
    }
}
