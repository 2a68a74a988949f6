//! Anybody may send a WebSocket anything: no bytes may fail the frame reader, and the pieces that
//! they come in may not change what is read. CONTRIBUTING.md says how to run it.

#![no_main]

use datastream::internals::frame_reader::{Event, FrameReader, ReadError};
use libfuzzer_sys::fuzz_target;

/// What the server allows one message.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// What a reader made of some bytes: whole messages and control frames, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    said: Vec<(char, Vec<u8>)>,
    partial: Vec<u8>,
    error: Option<ReadError>,
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = heard(std::iter::once(bytes));
    assert_eq!(whole, heard(bytes.chunks(usize::from(step).max(1))), "the pieces matter");
    for (kind, payload) in &whole.said {
        assert!(payload.len() as u64 <= MESSAGE_BYTES_MAX, "{kind}: {} bytes", payload.len());
        assert!(*kind != 't' || std::str::from_utf8(payload).is_ok(), "{payload:?}");
    }
});

fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Heard {
    let (mut reader, mut heard) = (FrameReader::new(MESSAGE_BYTES_MAX), Heard::default());
    for piece in pieces {
        if let Err(error) = reader.read(&mut piece.to_vec(), |event| heard.note(event)) {
            heard.error = Some(error);
            // How much of a broken message was handed on before depends on the pieces.
            heard.partial.clear();
            break;
        }
    }
    heard
}

impl Heard {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Data { is_text, bytes, ends } => {
                self.partial.extend_from_slice(bytes);
                if ends {
                    let message = std::mem::take(&mut self.partial);
                    self.said.push((if is_text { 't' } else { 'b' }, message));
                }
            }
            Event::Ping(payload) => self.said.push(('i', payload.to_vec())),
            Event::Pong(payload) => self.said.push(('o', payload.to_vec())),
            Event::Close(code) => {
                self.said.push(('c', code.unwrap_or_default().to_be_bytes().into()));
            }
        }
    }
}
