//! Reads WebSocket frames of a client (RFC 6455 section 5) from pieces of any size.
//!
//! The reader turns bytes into events, without I/O or allocation, and unmasks data in place. It
//! passes data on as they arrive and holds no message. Between two reads, it keeps a partial
//! header, a partial control frame and a partial UTF-8 character.

use std::str;

/// The most payload bytes of a control frame (section 5.5).
const CONTROL_MAX: usize = 125;
/// Two bytes, eight bytes of length, four bytes of mask.
const HEADER_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// A piece of a message, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message, unmasked. A piece of text may start or end within a character.
    Data {
        /// Text or binary.
        is_text: bool,
        /// The next bytes of the message.
        bytes: &'a [u8],
        /// Whether the message ends here.
        ends: bool,
    },
    /// A ping; the answer is a pong with the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A close frame; the answer has the same code. No event follows.
    Close(Option<u16>),
}

/// A violation of the protocol. The reader cannot continue after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// 1002.
    #[error("not a valid WebSocket frame")]
    Protocol,
    /// 1007.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// 1009.
    #[error("a message above the size limit")]
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Payload {
    kind: Kind,
    is_final: bool,
    mask: [u8; 4],
    /// Payload bytes read so far.
    read: u64,
    size: u64,
}

/// The state between two reads.
#[derive(Debug)]
pub struct FrameReader {
    limit: u64,
    header: [u8; HEADER_MAX],
    header_read: u8,
    payload: Option<Payload>,
    control: [u8; CONTROL_MAX],
    /// Set within a message: whether it is text.
    message: Option<bool>,
    message_size: u64,
    utf8: Utf8,
    closed: bool,
}

impl FrameReader {
    /// A reader for messages of up to `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            header: [0; HEADER_MAX],
            header_read: 0,
            payload: None,
            control: [0; CONTROL_MAX],
            message: None,
            message_size: 0,
            utf8: Utf8::default(),
            closed: false,
        }
    }

    /// Whether the reader has no state: a new one can replace it.
    pub fn is_idle(&self) -> bool {
        !self.closed && self.header_read == 0 && self.payload.is_none() && self.message.is_none()
    }

    /// Reads the next bytes of the connection, unmasks them in place, and calls `on` for each
    /// event. After an error or a close frame, it ignores the rest.
    pub fn read(
        &mut self,
        mut bytes: &mut [u8],
        mut on: impl FnMut(Event<'_>),
    ) -> Result<(), ReadError> {
        while !self.closed {
            let Some(payload) = self.payload else {
                bytes = match self.read_header(bytes)? {
                    Some(rest) => rest,
                    None => return Ok(()),
                };
                continue;
            };
            // An empty payload needs no further byte.
            let left = usize::try_from(payload.size - payload.read).unwrap_or(usize::MAX);
            if bytes.is_empty() && left > 0 {
                return Ok(());
            }
            let (piece, rest) = bytes.split_at_mut(left.min(bytes.len()));
            self.read_payload(payload, piece, &mut on)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Reads the header. Returns the bytes after it, or `None` if it is incomplete.
    fn read_header<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<&'a mut [u8]>, ReadError> {
        let mut taken = 0;
        loop {
            let read = usize::from(self.header_read);
            if read >= 2 && read == self.header_size() {
                break;
            }
            let Some(byte) = bytes.get(taken) else { return Ok(None) };
            self.header[read] = *byte;
            self.header_read += 1;
            taken += 1;
            if self.header_read == 2 {
                // Two bytes are enough to detect an invalid frame.
                self.check_start()?;
            }
        }
        self.begin_payload()?;
        Ok(Some(&mut bytes[taken..]))
    }

    fn header_size(&self) -> usize {
        match self.header[1] & !MASKED {
            126 => 2 + 2 + 4,
            127 => 2 + 8 + 4,
            _ => 2 + 4,
        }
    }

    fn kind(&self) -> Result<Kind, ReadError> {
        Ok(match self.header[0] & 0x0f {
            0x0 => Kind::Continuation,
            0x1 => Kind::Text,
            0x2 => Kind::Binary,
            0x8 => Kind::Close,
            0x9 => Kind::Ping,
            0xa => Kind::Pong,
            _ => return Err(ReadError::Protocol),
        })
    }

    /// Checks sections 5.2, 5.4 and 5.5: no extension is in use, clients mask, control frames are
    /// whole and short, and a message ends before the next one starts.
    fn check_start(&self) -> Result<(), ReadError> {
        let [start, size, ..] = self.header;
        let fits = match self.kind()? {
            Kind::Continuation => self.message.is_some(),
            Kind::Text | Kind::Binary => self.message.is_none(),
            Kind::Close | Kind::Ping | Kind::Pong => {
                start & FIN != 0 && usize::from(size & !MASKED) <= CONTROL_MAX
            }
        };
        let ours = start & RESERVED == 0 && size & MASKED != 0;
        if fits && ours { Ok(()) } else { Err(ReadError::Protocol) }
    }

    fn begin_payload(&mut self) -> Result<(), ReadError> {
        let header = self.header;
        let (size, mask) = match header[1] & !MASKED {
            126 => (u64::from(u16::from_be_bytes([header[2], header[3]])), &header[4..8]),
            127 => {
                (header[2..10].iter().fold(0, |n, byte| n << 8 | u64::from(*byte)), &header[10..14])
            }
            short => (u64::from(short), &header[2..6]),
        };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        let kind = self.kind()?;
        if !is_minimal(header[1] & !MASKED, size) {
            return Err(ReadError::Protocol);
        }
        if matches!(kind, Kind::Text | Kind::Binary | Kind::Continuation) {
            self.begin_data(kind, size)?;
        }
        self.header_read = 0;
        let is_final = header[0] & FIN != 0;
        self.payload = Some(Payload { kind, is_final, mask, read: 0, size });
        Ok(())
    }

    fn begin_data(&mut self, kind: Kind, size: u64) -> Result<(), ReadError> {
        self.message.get_or_insert(kind == Kind::Text);
        self.message_size = self.message_size.saturating_add(size);
        if self.message_size > self.limit {
            return Err(ReadError::TooLarge);
        }
        Ok(())
    }

    fn read_payload(
        &mut self,
        mut payload: Payload,
        piece: &mut [u8],
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ReadError> {
        let offset = payload.read as usize;
        for (at, byte) in piece.iter_mut().enumerate() {
            *byte ^= payload.mask[(offset + at) % 4];
        }
        payload.read += piece.len() as u64;
        let is_whole = payload.read == payload.size;
        self.payload = (!is_whole).then_some(payload);
        match payload.kind {
            Kind::Close | Kind::Ping | Kind::Pong => {
                self.control[offset..offset + piece.len()].copy_from_slice(piece);
                if is_whole {
                    self.control(payload.kind, offset + piece.len(), on)?;
                }
                Ok(())
            }
            _ => self.data(piece, is_whole && payload.is_final, on),
        }
    }

    fn data(
        &mut self,
        piece: &[u8],
        ends: bool,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ReadError> {
        let is_text = self.message == Some(true);
        if is_text && !self.utf8.check(piece, ends) {
            return Err(ReadError::NotUtf8);
        }
        if ends {
            self.message = None;
            self.message_size = 0;
        }
        on(Event::Data { is_text, bytes: piece, ends });
        Ok(())
    }

    fn control(
        &mut self,
        kind: Kind,
        size: usize,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ReadError> {
        let payload = &self.control[..size];
        match kind {
            Kind::Ping => on(Event::Ping(payload)),
            Kind::Pong => on(Event::Pong(payload)),
            _ => {
                let code = close_code(payload)?;
                self.closed = true;
                on(Event::Close(code));
            }
        }
        Ok(())
    }
}

/// The code of a close frame: none, or a permitted code with a reason in UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, ReadError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ReadError::Protocol),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(ReadError::Protocol);
            }
            str::from_utf8(reason).map_err(|_| ReadError::NotUtf8)?;
            Ok(Some(code))
        }
    }
}

/// The first bytes of an incomplete character.
#[derive(Debug, Default)]
struct Utf8 {
    partial: [u8; 4],
    size: usize,
}

impl Utf8 {
    /// Returns whether the text is valid so far, and complete if it ends here.
    fn check(&mut self, mut bytes: &[u8], ends: bool) -> bool {
        while self.size > 0
            && let Some((first, rest)) = bytes.split_first()
        {
            self.partial[self.size] = *first;
            self.size += 1;
            bytes = rest;
            match str::from_utf8(&self.partial[..self.size]) {
                Ok(_) => self.size = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        if self.size == 0
            && let Err(error) = str::from_utf8(bytes)
        {
            let rest = &bytes[error.valid_up_to()..];
            if error.error_len().is_some() {
                return false;
            }
            self.partial[..rest.len()].copy_from_slice(rest);
            self.size = rest.len();
        }
        !ends || std::mem::take(&mut self.size) == 0
    }
}

/// Whether a length is written in the fewest bytes, as it must be, and within 63 bits (RFC 6455
/// section 5.2). `form` is the length in the second byte of the frame.
fn is_minimal(form: u8, size: u64) -> bool {
    match form {
        126 => size > 125,
        127 => size > u64::from(u16::MAX) && size >> 63 == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
