//! Control frames of a WebSocket server (RFC 6455 section 5.5). [`crate::stream::frame`] writes the
//! data frames.

use bytes::Bytes;

/// First bytes of a frame: the FIN bit and the opcode.
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A ping without a payload.
pub fn ping() -> Bytes {
    Bytes::from_static(&[PING, 0])
}

/// Appends the pong to a ping with this payload of at most 125 bytes.
pub fn pong(payload: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&[PONG, payload.len() as u8]);
    into.extend_from_slice(payload);
}

/// A close frame with a reason of at most 123 bytes. Without a code its payload is empty.
pub fn close(code: Option<u16>, reason: &str) -> Bytes {
    let Some(code) = code else { return Bytes::from_static(&[CLOSE, 0]) };
    let size = 2 + reason.len();
    [&[CLOSE, size as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::close::CloseReason;

    #[test]
    fn a_close_frame_carries_its_code_and_reason() {
        let frame = close(Some(CloseReason::Gap.code()), CloseReason::Gap.text());
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        assert_eq!(frame[2..4], 4410_u16.to_be_bytes());
        assert_eq!(close(None, ""), &[0x88, 0][..]);
    }

    #[test]
    fn a_pong_carries_the_payload_of_its_ping() {
        let mut answer = Vec::new();
        pong(b"ab", &mut answer);
        assert_eq!(answer, [0x8a, 2, b'a', b'b']);
    }
}
