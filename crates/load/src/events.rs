//! Server-sent events inside an HTTP/1.1 chunked body.

use anyhow::{Context, Result, bail};

/// Decodes the chunks. Keeps its state between reads: a read may end anywhere in a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dechunk {
    place: Place,
    size: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Data,
    AfterData,
    End,
}

impl Dechunk {
    /// Appends the content of these bytes to `body`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<()> {
        while let [first, rest @ ..] = bytes {
            match self.place {
                Place::Data => {
                    let (data, after) = bytes.split_at(self.size.min(bytes.len()));
                    body.extend_from_slice(data);
                    self.size -= data.len();
                    bytes = after;
                    if self.size == 0 {
                        self.place = Place::AfterData;
                    }
                    continue;
                }
                Place::Size => self.size_byte(*first)?,
                Place::AfterData if *first == b'\n' => self.place = Place::Size,
                Place::AfterData | Place::End => {}
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Whether the last chunk has arrived.
    pub(crate) fn is_at_end(self) -> bool {
        self.place == Place::End
    }

    fn size_byte(&mut self, byte: u8) -> Result<()> {
        match byte {
            b'\r' => {}
            b'\n' => self.place = if self.size == 0 { Place::End } else { Place::Data },
            _ => {
                let digit = char::from(byte).to_digit(16).context("a chunk size is no number")?;
                self.size = self.size * 16 + digit as usize;
            }
        }
        Ok(())
    }
}

/// An event as this server writes it: a comment, or lines in a fixed order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A comment.
    Other,
    Round {
        id: &'a [u8],
        data: &'a [u8],
    },
}

/// The first complete event and its length; `None` if more bytes are needed.
pub(crate) fn first(body: &[u8]) -> Result<Option<(Event<'_>, usize)>> {
    let Some(end) = body.windows(2).position(|pair| pair == b"\n\n") else { return Ok(None) };
    let (mut id, mut data) = (None, None);
    for line in body[..end].split(|&byte| byte == b'\n') {
        if let Some(value) = line.strip_prefix(b"data: ") {
            data = Some(value);
        } else if let Some(value) = line.strip_prefix(b"id: ") {
            id = Some(value);
        }
    }
    let event = match (id, data) {
        (Some(id), Some(data)) => Event::Round { id, data },
        (None, None) => Event::Other,
        _ => bail!("an event has no id, or no data"),
    };
    Ok(Some((event, end + 2)))
}

/// A round as an event in its own chunk, as the server sends it.
pub(crate) fn chunk(round_id: u64, json: &[u8]) -> Vec<u8> {
    let mut event = format!("event: message\nid: {round_id}\ndata: ").into_bytes();
    event.extend_from_slice(json);
    event.extend_from_slice(b"\n\n");
    let mut chunk = format!("{:X}\r\n", event.len()).into_bytes();
    chunk.extend_from_slice(&event);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cut_anywhere_gives_the_same_events() {
        let body =
            [&b"8\r\n: open\n\n\r\nc\r\nretry: 1873\n\r\n"[..], &chunk(7, b"{}"), b"0\r\n\r\n"]
                .concat();
        for cut in 0..body.len() {
            let (mut dechunk, mut content) = (Dechunk::default(), Vec::new());
            dechunk.feed(&body[..cut], &mut content).expect("chunks");
            dechunk.feed(&body[cut..], &mut content).expect("chunks");
            assert!(dechunk.is_at_end());
            let (comment, length) = first(&content).expect("an event").expect("whole");
            assert_eq!((comment, length), (Event::Other, 8));
            let (round, rest) = first(&content[length..]).expect("an event").expect("whole");
            assert_eq!(round, Event::Round { id: b"7", data: b"{}" });
            assert_eq!(length + rest, content.len());
        }
    }

    #[test]
    fn an_incomplete_event_needs_more_bytes_and_one_without_data_is_an_error() {
        assert!(first(b"event: message\nid: 7\n").expect("no error").is_none());
        assert!(first(b"id: 7\n\n").is_err());
        assert_eq!(first(b": heartbeat 1\n\n").expect("an event"), Some((Event::Other, 15)));
    }
}
