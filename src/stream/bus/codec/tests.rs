//! Every message is read as it was written.

use super::*;
use crate::stream::{
    bus::read::LogEntry,
    round::{FinishedAt, Round, RoundId, UnixMillis},
};

fn subjects() -> Subjects {
    Subjects::new("datastream")
}

fn entry(seq: u64, outgoing: Outgoing) -> LogEntry {
    let Outgoing { subject, headers, payload } = outgoing;
    LogEntry { seq, subject, headers, payload }
}

fn message(slug: &str, extras: &str) -> RoundMessage {
    let round = Round {
        round_id: RoundId::text("a b/ü").expect("an id"),
        game_id: GameId::text("*.>").expect("an id"),
        game_slug: slug.into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(1_768_610_742_000_001).expect("in range"),
        extras: extras.into(),
        timestamp: UnixMillis(1_768_621_542_123),
    };
    let (xid, before, attachment) = (Xid(7), Xid(5), Attachment(2));
    let captured =
        Captured { round, xid, attachment, at: Some(3), before, poll: 11, recorded: None };
    RoundMessage { captured, space: u64::MAX, term: 8, is_repeat: false }
}

#[test]
fn a_round_of_any_slug_is_read_as_it_was_written() {
    let long = "é".repeat(2_500);
    for slug in ["", "a.b", "a b", "*", ">", "\u{2028}", long.as_str()] {
        let written = message(slug, r#"{"point": "11.72"}"#);
        let [outgoing] = &*round_messages(&subjects(), &written, 1 << 20) else { panic!("one") };
        assert!(outgoing.subject.len() < 1_000);
        let read = decode(&subjects(), &entry(1, outgoing.clone())).expect("a message");
        let LogMessage::Round(read) = read else { panic!("{read:?}") };
        assert_eq!(read.captured.round, written.captured.round);
        assert_eq!(read.captured.round.to_json(), written.captured.round.to_json());
        let ids = |it: &RoundMessage| {
            let Captured { xid, before, attachment, at, poll, .. } = it.captured.clone();
            (xid, before, attachment, at, poll, it.space, it.term, it.is_repeat)
        };
        assert_eq!(ids(&read), ids(&written));
    }
}

#[test]
fn a_round_that_is_larger_than_a_message_comes_in_parts() {
    let written = message("crash", &format!("{{\"a\": \"{}\"}}", "x".repeat(10_000)));
    let parts = round_messages(&subjects(), &written, 6_000);
    assert_eq!(parts.len(), 3);
    let body: Vec<u8> = parts.iter().flat_map(|part| part.payload.iter().copied()).collect();
    let last = entry(3, parts.last().expect("a part").clone());
    assert!(matches!(decode(&subjects(), &last), Ok(LogMessage::Part { number: 3, of: 3 })));
    let read = decode_assembled(&last, &body).expect("a message");
    let LogMessage::Round(read) = read else { panic!("{read:?}") };
    assert_eq!(read.captured.round, written.captured.round);
}

#[test]
fn a_mark_is_read_as_it_was_written() {
    let space = Space { system: "7".into(), timeline: 2, database: 3, generation: 4 };
    let written =
        PositionMark { base: 9, space, at: -5, snapshot: "1:5:2,3".into(), is_shared: true };
    let mut outgoing = mark_message(&subjects(), 8);
    assert!(EncodedMark::new(&written, true).put_on(&mut outgoing, 1 << 20));
    let entry = entry(10, outgoing);
    assert!(is_whole(&entry));
    assert_eq!(read_mark(&entry), Ok(Some(written)));
    assert!(matches!(decode(&subjects(), &entry), Ok(LogMessage::Mark)));
}

#[test]
fn a_mark_of_an_earlier_version_says_that_others_may_stream() {
    let space = Space { system: "7".into(), timeline: 2, database: 3, generation: 4 };
    let is_shared = false;
    let written = PositionMark { base: 9, space, at: -5, snapshot: "1:5:2,3".into(), is_shared };
    let mut outgoing = mark_message(&subjects(), 8);
    assert!(EncodedMark::new(&written, false).put_on(&mut outgoing, 1 << 20));
    let text = outgoing.headers.get(POSITION).expect("a mark").to_string();
    outgoing.headers.insert(POSITION, text.strip_suffix(" 0").expect("the last field"));
    let entry = entry(10, outgoing);
    let read = read_mark(&entry).expect("a mark");
    assert!(read.is_some_and(|mark| mark.is_shared));
    assert!(!is_whole(&entry));
}

#[test]
fn a_mark_that_nats_would_refuse_is_not_put_on_a_message() {
    let running: Vec<_> = (100..400).map(|xid: u64| (xid * 1_000_000_000).to_string()).collect();
    let snapshot = format!("1:500000000000:{}", running.join(","));
    let space = Space::default();
    let mark = PositionMark { base: 9, space, at: 0, snapshot, is_shared: false };
    let mark = EncodedMark::new(&mark, true);
    let mut round = round_messages(&subjects(), &message("crash", &"x".repeat(60_000)), 1 << 16);
    let last = round.last_mut().expect("a message");
    assert!(!mark.put_on(last, 1 << 16));
    assert!(mark.put_on(&mut mark_message(&subjects(), 8), 1 << 16));
}

#[test]
fn a_message_of_a_later_version_is_never_read_as_another() {
    let mut outgoing = mark_message(&subjects(), 8);
    outgoing.headers.insert(ROUND, "2 something else");
    let found = decode(&subjects(), &entry(1, outgoing));
    assert_eq!(found.err(), Some(BadMessage::Version("2".into())));
}
