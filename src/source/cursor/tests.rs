//! The cursor, step by step.

use super::*;
use crate::stream::transaction::Attachment;

/// The answer of a poll on a database in which so many transactions have begun and ended.
fn polled(begun: u64, inserted: i64, flushed: i64) -> Seen {
    let snapshot = format!("{begun}:{begun}:").parse().expect("a snapshot");
    Seen { snapshot, inserted: Lsn(inserted), flushed: Lsn(flushed) }
}

fn snapshot() -> Snapshot {
    polled(10, 10, 0).snapshot
}

fn finish(xid: u64, round: i64) -> Finish {
    let (xid, attachment) = (Xid(xid), Attachment(0));
    Finish { xid, attachment, round: RoundId::number(round) }
}

fn key(round: i64, micros: i64) -> RoundKey {
    RoundKey { round: RoundId::number(round), finished_at: moment(micros) }
}

fn row(xid: u64, at: i64) -> OutboxKey {
    OutboxKey { finish: finish(xid, 1), at }
}

fn moment(micros: i64) -> FinishedAt {
    FinishedAt::from_micros(micros).expect("in range")
}

#[test]
fn rounds_that_no_rewind_needs_are_remembered_up_to_the_bound() {
    let mut cursor = Cursor::new(snapshot());
    let rounds = i64::try_from(PUBLISHED_MAX).expect("small") * 3;
    for number in 0..rounds {
        let finish = finish(11, number);
        cursor.mark_published(OutboxKey { finish, at: number }, moment(number));
    }
    assert_eq!(cursor.rewind().len(), 3 * PUBLISHED_MAX, "all of a catch-up");
    cursor.advance(polled(10, 10, 100), Position(0));
    assert_eq!(cursor.rewind().len(), 0);
    assert_eq!(cursor.start_over(snapshot()).len(), PUBLISHED_MAX);
}

#[test]
fn a_replay_ends_where_no_crash_takes_a_transaction_id_back() {
    let mut cursor = Cursor::new(snapshot());
    cursor.begins_at(Position(3));
    cursor.advance(polled(20, 7, 6), Position(5));
    assert_eq!((cursor.durable_position(), cursor.durable().sees(Xid(15))), (Position(3), false));
    cursor.advance(polled(30, 9, 7), Position(8));
    assert_eq!((cursor.durable_position(), cursor.durable().sees(Xid(15))), (Position(5), true));
    assert!(!cursor.durable().sees(Xid(25)));
}

#[test]
fn the_newest_row_that_no_crash_takes_back_is_known() {
    let mut cursor = Cursor::new(snapshot());
    cursor.mark_published(row(11, 7), moment(0));
    assert_eq!(cursor.durable_row(), None, "a crash may take it back");
    cursor.advance(polled(10, 10, 100), Position(1));
    assert_eq!(cursor.durable_row(), Some(row(11, 7)));
}

#[test]
fn each_published_page_moves_the_place_where_a_new_connection_begins() {
    let mut cursor = Cursor::new(snapshot());
    cursor.mark_published(row(11, 0), moment(0));
    assert!(cursor.advance_before(Xid(15), &polled(100, 0, 0), Position(1)));
    assert!(cursor.durable().sees(Xid(14)) && !cursor.durable().sees(Xid(15)));
    assert_eq!((cursor.durable_position(), cursor.rewind().len()), (Position(1), 0));
    // A round of a younger transaction was published before the connection broke.
    cursor.mark_published(row(60, 0), moment(0));
    cursor.mark_published(row(16, 0), moment(0));
    assert!(!cursor.advance_before(Xid(20), &polled(100, 0, 0), Position(3)));
    assert_eq!((cursor.durable_position(), cursor.rewind().len()), (Position(1), 2));
    assert!(cursor.advance_before(Xid(70), &polled(100, 0, 0), Position(3)));
    assert_eq!((cursor.durable_position(), cursor.rewind().len()), (Position(3), 0));
}

#[test]
fn a_poll_that_broke_off_and_the_one_that_repeats_it_share_their_number() {
    let mut cursor = Cursor::new(snapshot());
    let first = cursor.poll();
    cursor.mark_published(row(11, 0), moment(0));
    cursor.advance_before(Xid(15), &polled(100, 0, 0), Position(1));
    cursor.rewind();
    assert_eq!(cursor.poll(), first);
    cursor.advance(polled(100, 0, 0), Position(1));
    assert!(cursor.poll() > first);
}

#[test]
fn a_skipped_round_stays_skipped_on_the_next_connection() {
    let mut cursor = Cursor::new(snapshot());
    cursor.skip(row(11, 7));
    let already = cursor.rewind();
    assert!(already.has_row(&row(11, 7)) && !already.has_key(&key(1, 0)));
    assert_eq!(cursor.round_keys().count(), 0);
}
