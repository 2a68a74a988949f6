//! The parts of RFC 6455 that a subscriber needs.

use anyhow::{Result, bail};

/// The sample key of RFC 6455, section 1.3: the key need not be secret.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The server's response to this key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close(u16),
}

/// The first complete frame and its length on the wire; `None` if more bytes are needed.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [head, length, ..] = *bytes else { return Ok(None) };
    let Some((start, length)) = payload(bytes, length)? else { return Ok(None) };
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    let frame = match head {
        0x81 => Frame::Text(payload),
        0x89 => Frame::Ping(payload),
        0x88 => Frame::Close(match payload {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 1005,
        }),
        _ => bail!("a frame begins with {head:#04x}: not a whole text, ping or close frame"),
    };
    Ok(Some((frame, start + length)))
}

/// The offset of the payload and its length.
fn payload(bytes: &[u8], length: u8) -> Result<Option<(usize, usize)>> {
    Ok(match length {
        0..=125 => Some((2, usize::from(length))),
        126 => bytes.get(2..4).map(|b| (4, usize::from(u16::from_be_bytes([b[0], b[1]])))),
        127 => match bytes.get(2..10) {
            Some(b) => Some((10, usize::try_from(u64::from_be_bytes(b.try_into()?))?)),
            None => None,
        },
        _ => bail!("a frame of the server is masked"),
    })
}

/// A text frame as a server sends it.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(length as u8),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The response to a ping, masked as RFC 6455 requires of clients, with a mask of zeros.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    let length = payload.len().min(125);
    let mut frame = vec![0x8A, 0x80 | length as u8, 0, 0, 0, 0];
    frame.extend_from_slice(&payload[..length]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_size_is_parsed_only_once_it_is_complete() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; size];
            let frame = text(&payload);
            let read = first(&frame).expect("a frame").expect("whole");
            assert_eq!(read, (Frame::Text(&payload), frame.len()));
            for cut in [0, 1, frame.len() - 1] {
                assert!(first(&frame[..cut]).expect("no error").is_none(), "{size}, {cut}");
            }
        }
    }

    #[test]
    fn a_close_frame_contains_its_code() {
        let close = [0x88, 2, 0x03, 0xE9];
        assert_eq!(first(&close).expect("a frame"), Some((Frame::Close(1001), 4)));
    }

    #[test]
    fn a_pong_is_masked_and_repeats_the_ping() {
        assert_eq!(pong(b"a"), [0x8A, 0x81, 0, 0, 0, 0, b'a']);
    }

    #[test]
    fn a_masked_or_broken_frame_is_an_error() {
        assert!(first(&[0x81, 0x80]).is_err());
        assert!(first(&[0x01, 0x00]).is_err());
    }
}
