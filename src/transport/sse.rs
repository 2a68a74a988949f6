//! Server-sent events: the body of a `text/event-stream` response.
//!
//! The bytes of an event are shared by everyone who gets it; a body copies only to join several
//! rounds into one write. HTTP framing is the server's business: chunks on HTTP/1.1, plain bytes
//! on HTTP/1.0.

use std::convert::Infallible;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::{BATCH, Record, Session, beats, close::CloseReason};
use crate::{
    frame::Frame,
    hub::{Delivery, Opening},
    round::UnixMillis,
};

/// How long an `EventSource` waits before it reconnects. Sent first: it makes the head of the
/// response go out at once, also when there is no round yet.
const RETRY: &[u8] = b"retry: 2000\n\n";

/// The events of a session, until it ends; its end is the end of the body, after which an
/// `EventSource` reconnects and resumes by itself.
pub fn body(session: Session) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let Session { opening, mut subscription, heartbeat, shutdown, mut record } = session;
    stream! {
        yield Ok(Bytes::from_static(RETRY));
        for bytes in opening_events(opening, &record) {
            yield Ok(bytes);
        }
        let mut beats = beats(heartbeat);
        let reason = loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break CloseReason::ShuttingDown,
                _ = beats.tick() => yield Ok(heartbeat_comment(UnixMillis::now())),
                delivery = subscription.next() => match delivery {
                    Delivery::Rounds(frames) => {
                        for bytes in events(frames, &record) {
                            yield Ok(bytes);
                        }
                    }
                    Delivery::TooSlow => break CloseReason::TooSlow,
                    Delivery::Closed => break CloseReason::ShuttingDown,
                },
            }
        };
        record.close(reason);
    }
}

/// A seed is `initial`, and so is the seed after a gap: the stream starts over. All else is
/// `message`.
fn opening_events(opening: Opening, record: &Record) -> Vec<Bytes> {
    match opening {
        Opening::Seed(seed) | Opening::Gap(seed) => {
            record.written(usize::from(seed.is_some()));
            seed.iter().map(Frame::initial_event).collect()
        }
        Opening::Resumed(frames) => events(frames, record).collect(),
    }
}

/// The events of these rounds, joined; counted as they are taken.
fn events(frames: Vec<Frame>, record: &Record) -> impl Iterator<Item = Bytes> + '_ {
    let mut frames = frames.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = frames.next()?.message_event();
        let mut rounds = 1;
        let mut joined = BytesMut::new();
        while let Some(frame) = frames.next_if(|_| first.len().max(joined.len()) < BATCH) {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&frame.message_event());
            rounds += 1;
        }
        record.written(rounds);
        Some(if rounds == 1 { first } else { joined.freeze() })
    })
}

/// A comment keeps proxies from closing a quiet stream, and tells whether the peer is still there.
fn heartbeat_comment(now: UnixMillis) -> Bytes {
    format!(": heartbeat {}\n\n", now.0.div_euclid(1000)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        round::{FinishedAt, GameId, Round, RoundId},
        shutdown::Shutdown,
        telemetry::metrics::{ByTransport, Metrics, Transport},
        transport::link::LinkHandle,
    };

    fn frame(id: i64) -> Frame {
        Frame::encode(&Round {
            round_id: RoundId(id),
            game_id: GameId(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: "{}".into(),
            timestamp: UnixMillis(1),
        })
    }

    fn record(metrics: &Metrics) -> Record {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let link = LinkHandle::default();
        Record::open(metrics, Transport::sse, &Shutdown::default(), link, place)
    }

    #[test]
    fn a_heartbeat_is_a_comment_with_unix_seconds() {
        let comment = heartbeat_comment(UnixMillis(1_705_432_800_999));
        assert_eq!(comment, &b": heartbeat 1705432800\n\n"[..]);
    }

    #[test]
    fn a_seed_is_initial_and_a_replay_is_messages() {
        let record = record(&Metrics::default());
        let seed = opening_events(Opening::Seed(Some(frame(1))), &record);
        assert_eq!(seed, [frame(1).initial_event()]);
        let gap = opening_events(Opening::Gap(Some(frame(1))), &record);
        assert_eq!(gap, [frame(1).initial_event()]);
        assert!(opening_events(Opening::Seed(None), &record).is_empty());
        let replay = opening_events(Opening::Resumed(vec![frame(2), frame(3)]), &record);
        let joined = [frame(2).message_event(), frame(3).message_event()].concat();
        assert_eq!(replay, [Bytes::from(joined)]);
    }

    #[test]
    fn rounds_that_wait_together_are_joined_in_order_and_bounded() {
        let metrics = Metrics::default();
        let record = record(&metrics);
        let frames: Vec<_> = (0..500).map(frame).collect();
        let expected: Vec<u8> = frames.iter().flat_map(|f| f.message_event().to_vec()).collect();
        let joined: Vec<_> = events(frames, &record).collect();
        assert_eq!(joined.concat(), expected);
        assert!(joined.len() > 1 && joined.iter().all(|bytes| bytes.len() < BATCH + 1024));
        let label = ByTransport { transport: Transport::sse };
        assert_eq!(metrics.rounds_written_total.get_or_create(&label).get(), 500);
    }

    #[test]
    fn a_single_round_is_sent_without_a_copy() {
        let record = record(&Metrics::default());
        let frame = frame(1);
        let sent: Vec<_> = events(vec![frame.clone()], &record).collect();
        assert_eq!(sent[0].as_ptr(), frame.message_event().as_ptr());
    }

    #[test]
    fn a_session_is_counted_while_it_is_open_and_once_when_it_ends() {
        let metrics = Metrics::default();
        let label = ByTransport { transport: Transport::sse };
        let record = record(&metrics);
        assert_eq!(metrics.subscribers.get_or_create(&label).get(), 1);
        drop(record);
        assert_eq!(metrics.subscribers.get_or_create(&label).get(), 0);
        let text = metrics.encode().expect("text");
        let line = r#"sessions_closed_total{transport="sse",reason="client"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
