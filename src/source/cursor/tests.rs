//! The cursor, step by step.

use super::*;
use crate::stream::round::GameId;

/// What a poll of a database says that has begun so many transactions, all of which are over.
fn polled(begun: u64, inserted: i64, flushed: i64) -> Seen {
    let snapshot = format!("{begun}:{begun}:").parse().expect("a snapshot");
    Seen { snapshot, inserted: Lsn(inserted), flushed: Lsn(flushed) }
}

fn snapshot() -> Snapshot {
    polled(10, 10, 0).snapshot
}

/// A payload of round 1, finished by this transaction.
fn payload(xid: u64, snapshot: Snapshot) -> Payload {
    Payload {
        xid: Xid(xid),
        snapshot,
        round_id: RoundId(1),
        game_id: GameId(1),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "{}".into(),
    }
}

fn row(xid: u64, at: i64) -> Recorded {
    Recorded { finish: (Xid(xid), RoundId(1)), at }
}

#[test]
fn a_payload_that_was_left_to_the_poll_is_to_be_confirmed_as_well() {
    let mut cursor = Cursor::new(snapshot());
    let now = Instant::now();
    cursor.claimed(&payload(11, snapshot()), now);
    cursor.claimed(&payload(12, snapshot()), now);
    cursor.confirm([row(11, 0)]);
    assert_eq!(cursor.advance(polled(10, 10, 0), Position(0), now), []);
    let unconfirmed = cursor.advance(polled(10, 10, 0), Position(0), now + CONFIRM_WITHIN * 2);
    assert_eq!(unconfirmed, [(Xid(12), RoundId(1))]);
}

#[test]
fn a_payload_that_the_outbox_does_not_confirm_is_told_after_a_second() {
    let mut cursor = Cursor::new(snapshot());
    let forged = payload(11, snapshot());
    assert_eq!(cursor.judge(&forged), Verdict::Now);
    let now = Instant::now();
    cursor.delivered_by_payload(&forged, now);
    assert_eq!(cursor.advance(polled(10, 10, 0), Position(0), now), []);
    let later = now + CONFIRM_WITHIN * 2;
    assert_eq!(cursor.advance(polled(10, 10, 0), Position(0), later), [(Xid(11), RoundId(1))]);
    assert_eq!(cursor.advance(polled(10, 10, 0), Position(0), later), []);
}

#[test]
fn what_no_rewind_needs_is_remembered_up_to_the_bound() {
    let mut cursor = Cursor::new(snapshot());
    let rounds = i64::try_from(LATELY_MAX).expect("small") * 3;
    for number in 0..rounds {
        let finish = (Xid(11), RoundId(number));
        let at = FinishedAt::from_micros(number).expect("in range");
        cursor.delivered_by_poll(Recorded { finish, at: number }, at);
    }
    assert_eq!(cursor.rewind().len(), 3 * LATELY_MAX, "of a catch-up all");
    let seen = polled(10, 10, 100);
    cursor.advance(seen, Position(0), Instant::now());
    assert_eq!(cursor.rewind().len(), 0);
    assert_eq!(cursor.start_over(snapshot()).len(), LATELY_MAX);
}

#[test]
fn a_replay_ends_where_no_crash_takes_a_transaction_id_back() {
    let mut cursor = Cursor::new(snapshot());
    cursor.begins_at(Position(3));
    cursor.advance(polled(20, 7, 6), Position(5), Instant::now());
    assert_eq!((cursor.safe_position(), cursor.safe().sees(Xid(15))), (Position(3), false));
    cursor.advance(polled(30, 9, 7), Position(8), Instant::now());
    assert_eq!((cursor.safe_position(), cursor.safe().sees(Xid(15))), (Position(5), true));
    assert!(!cursor.safe().sees(Xid(25)));
}

#[test]
fn what_a_payload_brought_is_told_by_its_row_once_a_poll_has_confirmed_it() {
    let mut cursor = Cursor::new(snapshot());
    let (payload, recorded, now) = (payload(11, snapshot()), row(11, 7), Instant::now());
    cursor.delivered_by_payload(&payload, now);
    cursor.confirm([recorded]);
    let later = now + CONFIRM_WITHIN * 2;
    assert_eq!(cursor.advance(polled(10, 10, 0), Position(1), later), [], "it is confirmed");
    assert!(cursor.rewind().has(recorded), "whatever its moment has become");
    assert_eq!(cursor.landmark(), None, "a crash may take it back");
    cursor.delivered_by_payload(&payload, Instant::now());
    cursor.confirm([recorded]);
    cursor.advance(polled(10, 10, 100), Position(1), Instant::now());
    assert_eq!(cursor.landmark(), Some(recorded));
}

#[test]
fn each_page_that_is_on_the_stream_moves_the_place_where_a_new_connection_begins() {
    let mut cursor = Cursor::new(snapshot());
    let at = FinishedAt::from_micros(0).expect("in range");
    cursor.delivered_by_poll(row(11, 0), at);
    cursor.advance_before(Xid(15), &polled(100, 0, 0), Position(1));
    assert!(cursor.safe().sees(Xid(14)) && !cursor.safe().sees(Xid(15)));
    assert_eq!((cursor.safe_position(), cursor.rewind().len()), (Position(1), 0));
    // A payload of a younger transaction was on the stream before the link broke.
    cursor.delivered_by_payload(&payload(60, polled(60, 0, 0).snapshot), Instant::now());
    cursor.delivered_by_poll(row(16, 0), at);
    cursor.advance_before(Xid(20), &polled(100, 0, 0), Position(3));
    assert_eq!((cursor.safe_position(), cursor.rewind().len()), (Position(1), 2));
    cursor.advance_before(Xid(70), &polled(100, 0, 0), Position(3));
    assert_eq!((cursor.safe_position(), cursor.rewind().len()), (Position(3), 0));
}
