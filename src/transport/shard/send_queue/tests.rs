//! A send queue on a socket whose free space each test sets.

use std::sync::Arc;

use super::*;
use crate::stream::{
    frame::Frame,
    round::{FinishedAt, GameId, Round, RoundId, UnixMillis},
    transaction::{Attachment, Finish, Xid},
};
use crate::{
    ops::{memory_budget::MemoryBudget, telemetry::metrics::MemoryUse},
    stream::replay::{PageKind, ReplayPage},
    transport::{shard::replay_task::ReplayHandle, test_socket::TestSocket},
};

const PROTOCOL: Protocol = Protocol::WebSocket;

fn sized(id: u64, size: usize) -> Placed {
    let frame = Frame::encode(&Round {
        round_id: RoundId::number(id.cast_signed()),
        game_id: GameId::number(1),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "x".repeat(size).into(),
        timestamp: UnixMillis(1),
    });
    let (xid, attachment) = (Xid(id), Attachment(0));
    let finish = Finish { xid, attachment, round: RoundId::number(id.cast_signed()) };
    let game = (GameId::number(1), Arc::from("multiplier"));
    Placed { position: Position(id), finish, game, frame, recorded: None }
}

fn placed(id: u64) -> Placed {
    sized(id, 1000)
}

fn bytes(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let all: Vec<_> = ids.into_iter().map(|id| PROTOCOL.round(&placed(id).frame)).collect();
    all.concat()
}

/// A queue whose socket took 10 bytes of the first round.
fn blocked() -> (SendQueue, TestSocket) {
    let mut send_queue = SendQueue::new(Position(0));
    let (first, budget) = ([placed(1)], MemoryBudget::unlimited());
    let joined = PROTOCOL.join(&first, &budget).next().expect("a round").segment;
    send_queue.push_started(joined, 10);
    (send_queue, TestSocket::default())
}

fn flush(send_queue: &mut SendQueue, socket: &mut TestSocket, room: usize) -> (Flushed, u32) {
    socket.room = room;
    send_queue.flush(socket, Instant::now())
}

/// Pushes rounds that were published together.
fn missed_after(send_queue: &mut SendQueue) -> Option<Position> {
    send_queue.missed().map(|later| later.position())
}

fn push_rounds(send_queue: &mut SendQueue, rounds: &[Placed], now: Instant) {
    let budget = MemoryBudget::unlimited();
    let joined = PROTOCOL.join(rounds, &budget);
    joined.for_each(|joined| send_queue.push_rounds(&joined, PROTOCOL, now, false));
}

/// Pushes rounds one by one, over more time than a burst may take.
fn offer_slowly(send_queue: &mut SendQueue, ids: std::ops::RangeInclusive<u64>) {
    let start = Instant::now();
    let step = BURST_FOR * 4 / u32::try_from(ids.clone().count()).expect("few");
    for (step, id) in (0..).map(|count| step * count).zip(ids) {
        push_rounds(send_queue, &[placed(id)], start + step);
    }
}

#[test]
fn queued_rounds_are_written_in_order_and_counted_when_complete() {
    let (mut send_queue, mut socket) = blocked();
    push_rounds(&mut send_queue, &[placed(2), placed(3)], Instant::now());
    assert_eq!(flush(&mut send_queue, &mut socket, 1500), (Flushed::Blocked, 1));
    assert!(!send_queue.is_caught_up(Position(3)));
    assert_eq!(flush(&mut send_queue, &mut socket, usize::MAX), (Flushed::All, 2));
    assert_eq!(socket.taken, bytes(1..=3)[10..]);
    assert!(!send_queue.is_caught_up(Position(2)), "round 3 was not sent to the others yet");
    assert!(send_queue.is_caught_up(Position(3)));
}

#[test]
fn rounds_above_the_limit_are_dropped_and_refilled_when_the_socket_drains() {
    let (mut send_queue, mut socket) = blocked();
    offer_slowly(&mut send_queue, 2..=900);
    assert!(send_queue.segments.len() == 1 && send_queue.lagging);
    assert!(!send_queue.takes_rounds(), "until it was refilled");
    assert_eq!(missed_after(&mut send_queue), None, "the socket is full");
    assert_eq!(flush(&mut send_queue, &mut socket, usize::MAX), (Flushed::All, 1));
    assert_eq!(missed_after(&mut send_queue), Some(Position(1)));
    let missed = Missed { rounds: (2..=50).map(placed).collect(), whole: None };
    send_queue.refill(&missed, PROTOCOL);
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(missed_after(&mut send_queue), Some(Position(50)));
    let missed = Missed { rounds: (51..=100).map(placed).collect(), whole: Some(Position(120)) };
    send_queue.refill(&missed, PROTOCOL);
    // Rounds up to the end of the refill are not queued again.
    let around = (90..=121).map(placed).collect::<Vec<_>>();
    push_rounds(&mut send_queue, &around, Instant::now());
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(socket.taken, bytes((1..=100).chain([121]))[10..]);
    assert!(send_queue.is_caught_up(Position(121)) && send_queue.takes_rounds());
}

#[test]
fn a_burst_is_queued_whole_and_shared_up_to_a_limit() {
    let (mut send_queue, mut socket) = blocked();
    let start = Instant::now();
    let burst: Vec<_> = (2..=3500).map(placed).collect();
    push_rounds(&mut send_queue, &burst, start);
    assert!(
        !send_queue.lagging && send_queue.segments.len() < 80,
        "joined as for the other members"
    );
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(socket.taken, bytes(1..=3500)[10..]);
    push_rounds(&mut send_queue, &[placed(3501)], start + BURST_FOR * 2);
    assert!(!send_queue.lagging, "the burst is over");
    push_rounds(&mut send_queue, &(3502..=9000).map(placed).collect::<Vec<_>>(), start);
    assert!(send_queue.lagging && send_queue.live_bytes <= QUEUE_MAX, "above the limit of a burst");
}

#[test]
fn a_refill_stays_within_the_limit_and_continues_after_its_last_round() {
    let (mut send_queue, mut socket) = blocked();
    offer_slowly(&mut send_queue, 2..=600);
    flush(&mut send_queue, &mut socket, usize::MAX);
    for _ in 0..10 {
        let Some(Position(from)) = missed_after(&mut send_queue) else { break };
        let rounds = (from + 1..=600).map(placed).collect();
        send_queue.refill(&Missed { rounds, whole: Some(Position(600)) }, PROTOCOL);
        assert!(send_queue.live_bytes <= QUEUE_MAX);
        flush(&mut send_queue, &mut socket, usize::MAX);
    }
    assert_eq!(socket.taken, bytes(1..=600)[10..]);
}

#[test]
fn a_round_larger_than_the_queue_is_sent() {
    let (mut send_queue, mut socket) = (SendQueue::new(Position(0)), TestSocket::default());
    let large = sized(1, 3 * QUEUE_MAX);
    let start = Instant::now();
    push_rounds(&mut send_queue, std::slice::from_ref(&large), start);
    push_rounds(&mut send_queue, &[placed(2)], start + BURST_FOR * 2);
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(socket.taken, PROTOCOL.round(&large.frame));
    assert_eq!(missed_after(&mut send_queue), Some(Position(1)));
    let missed = Missed { rounds: vec![sized(2, 2 * QUEUE_MAX)], whole: Some(Position(2)) };
    send_queue.refill(&missed, PROTOCOL);
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert!(send_queue.is_caught_up(Position(2)));
}

#[test]
fn an_opening_larger_than_the_queue_is_not_dropped() {
    let (mut send_queue, mut socket) = (SendQueue::new(Position(1000)), TestSocket::default());
    let replay: Vec<_> = (1..=1000).map(placed).collect();
    replay.iter().for_each(|placed| send_queue.push_kept(PROTOCOL.round(&placed.frame), 1));
    offer_slowly(&mut send_queue, 1001..=1900);
    assert_eq!(flush(&mut send_queue, &mut socket, usize::MAX), (Flushed::All, 1000));
    assert_eq!(socket.taken, bytes(1..=1000));
    assert_eq!(missed_after(&mut send_queue), Some(Position(1000)));
}

#[test]
fn a_close_message_follows_a_started_segment_and_ends_the_queue() {
    let (mut send_queue, mut socket) = blocked();
    push_rounds(&mut send_queue, &[placed(2)], Instant::now());
    send_queue.close(Bytes::from_static(b"bye"), true, Instant::now());
    push_rounds(&mut send_queue, &[placed(3)], Instant::now());
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(socket.taken, [&bytes([1])[10..], b"bye"].concat());
    assert!(send_queue.is_close_overdue(Instant::now()));
}

#[test]
fn a_socket_that_takes_less_than_the_minimum_is_stalled() {
    let patience = Duration::from_secs(1);
    let (mut send_queue, mut socket) = blocked();
    (2..=100).for_each(|id| push_rounds(&mut send_queue, &[placed(id)], Instant::now()));
    let start = Instant::now();
    send_queue.flush(&mut socket, start);
    assert!(!send_queue.is_stalled(start, patience));
    socket.room = PROGRESS_BYTES_MIN - 1;
    send_queue.flush(&mut socket, start + patience / 2);
    assert!(send_queue.is_stalled(start + patience, patience), "below the minimum");
    socket.room = 1;
    send_queue.flush(&mut socket, start + patience / 2);
    assert!(!send_queue.is_stalled(start + patience, patience), "at the minimum");
}

#[test]
fn a_full_socket_gets_the_pong_to_the_newest_ping_only() {
    let (mut send_queue, mut socket) = blocked();
    send_queue.set_pong(Bytes::from_static(b"one"));
    send_queue.set_pong(Bytes::from_static(b"two"));
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert_eq!(socket.taken, [&bytes([1])[10..], b"two"].concat());
}

#[test]
fn a_full_socket_is_flushed_only_for_a_queue_above_its_limit() {
    let (mut send_queue, mut socket) = blocked();
    assert!(!send_queue.waits_for_socket(), "not flushed yet");
    flush(&mut send_queue, &mut socket, 0);
    assert!(send_queue.waits_for_socket());
    push_rounds(&mut send_queue, &(2..=150).map(placed).collect::<Vec<_>>(), Instant::now());
    assert!(send_queue.waits_for_socket());
    push_rounds(&mut send_queue, &(151..=400).map(placed).collect::<Vec<_>>(), Instant::now());
    assert!(!send_queue.waits_for_socket());
    flush(&mut send_queue, &mut socket, usize::MAX);
    assert!(!send_queue.waits_for_socket(), "the socket has room");
}

#[test]
fn a_peer_that_reads_a_replay_too_slowly_is_noticed_and_one_that_waits_for_it_is_not() {
    let (start, window, rate) = (Instant::now(), Duration::from_secs(30), 2048);
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut send_queue = SendQueue::new(Position(1));
    send_queue.push_kept(vec![0; 1 << 20].into(), 1);
    send_queue.limit_replay(start);
    let mut socket = TestSocket { room: 40 << 10, ..TestSocket::default() };
    send_queue.flush(&mut socket, start);
    assert!(!send_queue.is_replay_too_slow(after(29), window, rate));
    assert!(send_queue.is_replay_too_slow(after(30), window, rate), "40 KiB in 30 s");
    socket.room = 70 << 10;
    send_queue.flush(&mut socket, after(40));
    assert!(!send_queue.is_replay_too_slow(after(60), window, rate), "70 KiB in 30 s");
    socket.room = usize::MAX;
    send_queue.flush(&mut socket, after(61));
    assert!(!send_queue.is_replay_too_slow(after(200), window, rate), "it has everything");
}

#[test]
fn the_pace_of_a_replay_is_measured_over_its_pages_without_the_time_between_them() {
    let (start, window) = (Instant::now(), Duration::from_secs(30));
    let after = |seconds| start + Duration::from_secs(seconds);
    // Each page of 64 KiB is taken in 20 s; the database takes 100 s for the second one.
    for (rate, is_too_slow) in [(2 << 10, false), (64 << 10, true)] {
        let mut send_queue = SendQueue::new(Position(1));
        send_queue.replay = Some(PagedReplay::new(ReplayHandle::for_tests(), Vec::new()));
        let mut socket = TestSocket { room: usize::MAX, ..TestSocket::default() };
        let page = || {
            let frame = sized(1, 64 << 10).frame;
            let budget = MemoryBudget::unlimited();
            let charge = budget.take(MemoryUse::replays, None, 1).expect("memory");
            ReplayPage { frames: vec![frame], kind: PageKind::Rounds, charge }
        };
        send_queue.push_page(page(), PROTOCOL, start);
        send_queue.flush(&mut socket, after(20));
        send_queue.request_page(after(20));
        assert!(!send_queue.is_replay_too_slow(after(110), window, rate), "it waits for us");
        send_queue.push_page(page(), PROTOCOL, after(120));
        assert!(!send_queue.is_replay_too_slow(after(125), window, rate), "25 s of its own");
        assert_eq!(send_queue.is_replay_too_slow(after(131), window, rate), is_too_slow);
    }
}

#[test]
fn without_memory_a_queue_keeps_the_segment_that_its_socket_started() {
    let mut send_queue = SendQueue::new(Position(0));
    push_rounds(&mut send_queue, &[placed(1)], Instant::now());
    let mut socket = TestSocket { room: 10, ..TestSocket::default() };
    send_queue.flush(&mut socket, Instant::now());
    let rounds = [placed(2), placed(3)];
    let joined = PROTOCOL.join(&rounds, &MemoryBudget::unlimited()).next();
    send_queue.push_rounds(&joined.expect("two rounds"), PROTOCOL, Instant::now(), true);
    assert_eq!(missed_after(&mut send_queue), None, "the socket is full");
    socket.room = usize::MAX;
    send_queue.flush(&mut socket, Instant::now());
    assert_eq!(missed_after(&mut send_queue), Some(Position(1)));
    assert_eq!(socket.taken, bytes([1]));
}
