//! Valid and invalid frames, in pieces of any size.

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 4096;

/// The events of a connection, with data joined into messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ReadFrames {
    messages: Vec<(bool, Vec<u8>)>,
    partial: Vec<u8>,
    pings: Vec<Vec<u8>>,
    pongs: Vec<Vec<u8>>,
    close: Option<Option<u16>>,
    error: Option<ReadError>,
}

impl ReadFrames {
    fn add(&mut self, event: Event<'_>) {
        match event {
            Event::Data { is_text, bytes, ends } => {
                self.partial.extend_from_slice(bytes);
                if ends {
                    self.messages.push((is_text, std::mem::take(&mut self.partial)));
                }
            }
            Event::Ping(payload) => self.pings.push(payload.to_vec()),
            Event::Pong(payload) => self.pongs.push(payload.to_vec()),
            Event::Close(code) => self.close = Some(code),
        }
    }
}

fn read_in(pieces: impl IntoIterator<Item = Vec<u8>>) -> ReadFrames {
    let (mut reader, mut frames) = (FrameReader::new(LIMIT), ReadFrames::default());
    for mut piece in pieces {
        if let Err(error) = reader.read(&mut piece, |event| frames.add(event)) {
            frames.error = Some(error);
            break;
        }
    }
    // The pieces decide how much of an invalid message is passed on before the error.
    if frames.error.is_some() {
        frames.partial.clear();
    }
    frames
}

fn read(bytes: &[u8]) -> ReadFrames {
    read_in([bytes.to_vec()])
}

/// A masked frame as a client writes it.
fn frame(start: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5a, 0x00, 0xff, 0x17];
    let mut frame = vec![start];
    match payload.len() {
        size @ ..126 => frame.push(0x80 | u8::try_from(size).expect("short")),
        size @ ..65_536 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(size).expect("medium").to_be_bytes());
        }
        size => {
            frame.push(0xff);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn messages_and_control_frames_are_distinguished() {
    let bytes =
        [frame(0x81, "é".as_bytes()), frame(0x89, b"p"), frame(0x82, &[0xff]), frame(0x8a, b"")];
    let frames = read(&bytes.concat());
    assert_eq!(frames.messages, [(true, "é".into()), (false, vec![0xff])]);
    assert_eq!((frames.pings, frames.pongs), (vec![b"p".to_vec()], vec![vec![]]));
    assert_eq!(frames.error, None);
}

#[test]
fn a_message_may_be_fragmented_around_control_frames_and_within_characters() {
    let text = "añ€🎰".as_bytes();
    let bytes = [
        frame(0x01, &text[..2]),
        frame(0x89, b"1"),
        frame(0x00, &text[2..7]),
        frame(0x00, b""),
        frame(0x80, &text[7..]),
    ];
    let frames = read(&bytes.concat());
    assert_eq!(frames.messages, [(true, text.to_vec())]);
    assert_eq!(frames.pings, [b"1".to_vec()]);
}

#[test]
fn an_invalid_frame_is_detected_at_its_first_invalid_byte() {
    for (what, bytes) in [
        ("not masked", vec![0x81, 0x02]),
        ("a reserved bit", vec![0xc1, 0x80]),
        ("an unknown opcode", vec![0x83, 0x80]),
        ("an unknown control opcode", vec![0x8b, 0x80]),
        ("a control frame over 125 bytes", vec![0x89, 0xfe]),
        ("a fragmented control frame", vec![0x09, 0x80]),
        ("a continuation without a message", vec![0x80, 0x80]),
        ("a message within a message", [frame(0x01, b"a"), vec![0x81, 0x80]].concat()),
        ("a length of 64 bits", [vec![0x82, 0xff, 0x80], vec![0; 11]].concat()),
        ("a close frame of one byte", frame(0x88, &[3])),
        ("a reserved close code", frame(0x88, &1005_u16.to_be_bytes())),
        ("a close code below 1000", frame(0x88, &999_u16.to_be_bytes())),
    ] {
        assert_eq!(read(&bytes).error, Some(ReadError::Protocol), "{what}");
    }
}

#[test]
fn text_must_be_utf_8_and_fails_at_the_first_invalid_byte() {
    for (what, bytes) in [
        ("a lone byte", frame(0x01, &[0xff])),
        ("a surrogate", frame(0x01, &[0xed, 0xa0, 0x80])),
        ("beyond the last character", frame(0x01, &[0xf4, 0x90])),
        ("half a character at the end", frame(0x81, &[0xe2, 0x82])),
        ("a character broken by a fragment", [frame(0x01, &[0xe2]), frame(0x80, b"a")].concat()),
        ("a reason", frame(0x88, &[3, 0xe8, 0xff])),
    ] {
        assert_eq!(read(&bytes).error, Some(ReadError::NotUtf8), "{what}");
    }
    assert_eq!(read(&frame(0x82, &[0xff])).error, None);
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_header() {
    assert_eq!(read(&frame(0x82, &[0; 4096])).error, None);
    assert_eq!(read(&[0x82, 0xfe, 0x10, 0x01, 0, 0, 0, 0]).error, Some(ReadError::TooLarge));
    let pieces = [frame(0x02, &[0; 4000]), frame(0x00, &[0; 96]), frame(0x80, &[0])];
    assert_eq!(read(&pieces.concat()).error, Some(ReadError::TooLarge));
    let apart = [frame(0x82, &[0; 4000]), frame(0x82, &[0; 4000])];
    assert_eq!(read(&apart.concat()).messages.len(), 2);
}

#[test]
fn nothing_is_read_after_a_close_frame() {
    let frames = read(&[frame(0x88, &1000_u16.to_be_bytes()), frame(0x83, b"junk")].concat());
    assert_eq!((frames.close, frames.error), (Some(Some(1000)), None));
    assert_eq!(read(&frame(0x88, b"")).close, Some(None));
}

#[test]
fn a_reader_between_two_messages_has_no_state() {
    let mut reader = FrameReader::new(LIMIT);
    reader.read(&mut frame(0x8a, b"pong"), |_| {}).expect("valid");
    assert!(reader.is_idle());
    reader.read(&mut [0x8a], |_| {}).expect("valid");
    assert!(!reader.is_idle());
}

/// Mostly frames, with some invalid bytes.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let starts = prop::sample::select(vec![0x01, 0x81, 0x02, 0x82, 0x00, 0x80, 0x88, 0x89, 0x8a]);
    let text = "[a-zé€🎰]{0,40}".prop_map(String::into_bytes);
    let payload = prop_oneof![3 => text, 1 => prop::collection::vec(any::<u8>(), 0..300)];
    let good = (starts, payload).prop_map(|(start, payload)| frame(start, &payload));
    let junk = prop::collection::vec(any::<u8>(), 0..20);
    let piece = prop_oneof![9 => good, 1 => junk];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_size_of_the_pieces_does_not_change_the_events(
        bytes in traffic(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec());
        let whole = read(&bytes);
        prop_assert_eq!(&read_in(pieces), &whole);
        prop_assert_eq!(&read_in(bytes.iter().map(|byte| vec![*byte])), &whole);
    }
}

#[test]
fn a_length_in_more_bytes_than_it_needs_is_a_protocol_error() {
    let mask = [0; 4];
    let long = |form: u8, length: &[u8]| {
        let head = [&[0x82, 0x80 | form], length, &mask].concat();
        read(&head).error
    };
    assert_eq!(long(126, &125_u16.to_be_bytes()), Some(ReadError::Protocol));
    assert_eq!(long(126, &126_u16.to_be_bytes()), None);
    assert_eq!(long(127, &65_535_u64.to_be_bytes()), Some(ReadError::Protocol));
    assert_eq!(long(127, &65_536_u64.to_be_bytes()), Some(ReadError::TooLarge));
    assert_eq!(long(127, &u64::MAX.to_be_bytes()), Some(ReadError::Protocol));
}
