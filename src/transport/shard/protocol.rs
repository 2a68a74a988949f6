//! The bytes of each protocol: start of a stream, rounds, heartbeats, close messages.

mod seeds;

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{
    ops::{
        memory_budget::{CountedBytes, MemoryBudget},
        telemetry::metrics::{MemoryUse, Transport},
    },
    stream::{
        frame::Frame,
        hub::{Opening, Placed, Position},
        round::UnixMillis,
    },
    transport::{close::CloseReason, frame_writer},
};

/// The reconnect delays for an `EventSource`, in milliseconds. Each connection gets another one, so
/// that clients do not come back all at once.
const RETRY_MILLIS: RangeInclusive<u32> = 1500..=2500;
/// The start of an event stream that has no event yet. A block without data would reach the handlers
/// of many libraries as an empty event.
const OPEN_COMMENT: &str = ": open\n\n";
/// Ends a chunked body (RFC 9112 section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A seed up to this size is sent with the response head in one call. A larger one is not copied: a
/// thousand clients that read nothing share its bytes.
const SEED_COPIED_MAX: usize = 4 * 1024;
/// Rounds are joined up to this size, which is half of a socket's send buffer. One call sends it to
/// a subscriber that keeps up, and a slow one holds little of it.
const JOINED_MAX: usize = 64 * 1024;

/// How the bytes of a stream are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// WebSocket.
    WebSocket,
    /// Server-sent events in chunks, for HTTP/1.1.
    Chunked,
    /// Server-sent events up to the close, for HTTP/1.0.
    Plain,
}

/// Bytes to send to subscribers.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) bytes: Bytes,
    /// The position of the last round in it, or of the last round before it if it holds none.
    pub(super) last: Position,
    pub(super) rounds: u32,
}

/// Rounds, and their bytes in one segment.
#[derive(Debug)]
pub(super) struct JoinedRounds<'a> {
    pub(super) segment: Segment,
    pub(super) rounds: &'a [Placed],
}

/// The start of a stream.
#[derive(Debug)]
pub(super) struct StreamStart {
    /// The bytes before the other seeds and the replay, with a single small seed.
    pub(super) bytes: Vec<u8>,
    /// The rounds in `bytes`.
    pub(super) rounds: u32,
    /// Large or several seeds: their bytes, shared with the hub, and how many each part ends.
    pub(super) seeds: Vec<(Bytes, u32)>,
    pub(super) replay: Vec<Frame>,
    /// Whether the first live round must follow [`Protocol::before_first_event`].
    pub(super) awaits_event: bool,
    /// Set if the stream ends after this.
    pub(super) end: Option<CloseReason>,
}

/// Bytes of joined rounds, counted until no send queue refers to them.
struct JoinedBytes {
    bytes: Vec<u8>,
    _counted: CountedBytes,
}

impl AsRef<[u8]> for JoinedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Protocol {
    /// Whether its bytes are chunks of an HTTP/1.1 body.
    pub(crate) fn is_chunked(self) -> bool {
        self == Self::Chunked
    }

    /// The transport in the metrics.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::WebSocket => Transport::websocket,
            Self::Chunked | Self::Plain => Transport::sse,
        }
    }

    /// A live or replayed round.
    pub(super) fn round(self, frame: &Frame) -> Bytes {
        match self {
            Self::WebSocket => frame.message(),
            Self::Chunked => frame.message_chunk(),
            Self::Plain => frame.message_event(),
        }
    }

    /// Whether a stream with this opening ends after it.
    pub(super) fn ends_with(self, opening: &Opening) -> bool {
        self == Self::WebSocket && matches!(opening, Opening::Gap(_))
    }

    /// The start of a stream after the response head. On an event stream, a seed is `initial`, also
    /// after a gap, because the stream starts over. A gap closes a WebSocket.
    /// `has_more`: rounds follow that the opening does not hold.
    pub(super) fn start(self, mut bytes: Vec<u8>, opening: Opening, has_more: bool) -> StreamStart {
        let end = self.ends_with(&opening).then_some(CloseReason::Gap);
        let (seeds, replay) = match opening {
            _ if end.is_some() => (Vec::new(), Vec::new()),
            Opening::Seed(seeds) | Opening::Gap(seeds) => (seeds.frames, Vec::new()),
            Opening::Resumed(resumed) => (Vec::new(), resumed.frames),
        };
        let has_event = has_more || !seeds.is_empty() || !replay.is_empty();
        let awaits_event = self != Self::WebSocket && !has_event;
        if awaits_event {
            bytes.extend_from_slice(&self.text(OPEN_COMMENT));
        } else {
            bytes.extend_from_slice(&self.before_first_event());
        }
        let mut start =
            StreamStart { bytes, rounds: 0, seeds: Vec::new(), replay, awaits_event, end };
        match &seeds[..] {
            [] => {}
            [seed] if seed.size() <= SEED_COPIED_MAX => {
                start.bytes.extend_from_slice(&self.seed(seed).concat());
                start.rounds = 1;
            }
            seeds => start.seeds = self.seeds(seeds, true),
        }
        start
    }

    /// The first line of the first event: the reconnect delay of an `EventSource`.
    pub(super) fn before_first_event(self) -> Bytes {
        match self {
            Self::WebSocket => Bytes::new(),
            Self::Chunked | Self::Plain => self.text(&retry_line()),
        }
    }

    /// A text of an event stream.
    fn text(self, text: &str) -> Bytes {
        match self {
            Self::Chunked => format!("{:x}\r\n{text}\r\n", text.len()).into(),
            Self::WebSocket | Self::Plain => text.to_owned().into(),
        }
    }

    /// A ping, or a comment with the time. It keeps proxies from closing a quiet stream, and
    /// detects a dead peer.
    pub(super) fn heartbeat(self, now: UnixMillis) -> Bytes {
        match self {
            Self::WebSocket => frame_writer::ping(),
            Self::Chunked | Self::Plain => {
                self.text(&format!(": heartbeat {}\n\n", now.0.div_euclid(1000)))
            }
        }
    }

    /// The message that ends a stream. An event stream ends without one, except that a token's end
    /// is an event: an `EventSource` would reconnect with the same token.
    pub(super) fn close_message(self, reason: CloseReason) -> Bytes {
        let bye = match reason {
            CloseReason::TokenExpired | CloseReason::KeyWithdrawn => {
                format!("event: bye\ndata: {{{}}}\n\n", reason.members())
            }
            _ => String::new(),
        };
        match self {
            Self::WebSocket => frame_writer::close(Some(reason.code()), reason.text()),
            Self::Chunked if bye.is_empty() => Bytes::from_static(LAST_CHUNK),
            Self::Chunked => [&self.text(&bye), LAST_CHUNK].concat().into(),
            Self::Plain => bye.into(),
        }
    }

    /// Joins rounds into segments, each when it is asked for. A single round is not copied.
    pub(super) fn join<'a>(
        self,
        rounds: &'a [Placed],
        budget: &MemoryBudget,
    ) -> impl Iterator<Item = JoinedRounds<'a>> {
        let mut rest = rounds;
        std::iter::from_fn(move || {
            let (now, later) = rest.split_at_checked(self.fitting(rest))?;
            rest = later;
            Some(self.joined(now, budget))
        })
    }

    /// How many of these rounds fit one segment; at least one.
    fn fitting(self, rounds: &[Placed]) -> usize {
        let mut size = 0;
        let fits = |placed: &&Placed| {
            size += self.round(&placed.frame).len();
            size <= JOINED_MAX
        };
        rounds.iter().take_while(fits).count().max(1)
    }

    fn joined<'a>(self, rounds: &'a [Placed], budget: &MemoryBudget) -> JoinedRounds<'a> {
        let bytes = match rounds {
            [one] => self.round(&one.frame),
            _ => {
                let rounds: Vec<_> =
                    rounds.iter().map(|placed| self.round(&placed.frame)).collect();
                let bytes = rounds.concat();
                let counted = budget.count(MemoryUse::queues, bytes.len());
                Bytes::from_owner(JoinedBytes { bytes, _counted: counted })
            }
        };
        let last = rounds.last().map_or(Position(0), |placed| placed.position);
        JoinedRounds { segment: Segment { bytes, last, rounds: rounds.len() as u32 }, rounds }
    }
}

/// A reconnect delay, as a line.
pub(crate) fn retry_line() -> String {
    format!("retry: {}\n", fastrand::u32(RETRY_MILLIS))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::{
        hub::{Resumed, Seeds},
        round::{FinishedAt, GameId, Round, RoundId},
        transaction::{Attachment, Finish, Xid},
    };

    fn placed(id: i64, extras: &str) -> Placed {
        let frame = Frame::encode(&Round {
            round_id: RoundId::number(id),
            game_id: GameId::number(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: extras.into(),
            timestamp: UnixMillis(1),
        });
        let (xid, attachment) = (Xid(1), Attachment(0));
        let finish = Finish { xid, attachment, round: RoundId::number(id) };
        let game = (GameId::number(1), Arc::from("multiplier"));
        Placed { position: Position(id.cast_unsigned()), finish, game, frame, recorded: None }
    }

    #[test]
    fn a_heartbeat_is_a_comment_with_unix_seconds_or_a_ping() {
        let now = UnixMillis(1_705_432_800_999);
        assert_eq!(Protocol::Plain.heartbeat(now), &b": heartbeat 1705432800\n\n"[..]);
        assert_eq!(Protocol::Chunked.heartbeat(now), &b"18\r\n: heartbeat 1705432800\n\n\r\n"[..]);
        assert_eq!(Protocol::WebSocket.heartbeat(now), &[0x89, 0][..]);
    }

    #[test]
    fn the_end_of_a_token_is_an_event_before_the_end_of_the_body() {
        let text = CloseReason::TokenExpired.text();
        let event = format!("event: bye\ndata: {{\"code\":4401,\"reason\":\"{text}\"}}\n\n");
        let bye = |protocol: Protocol| protocol.close_message(CloseReason::TokenExpired);
        assert_eq!(bye(Protocol::Plain), event.as_bytes());
        let chunked = format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len());
        assert_eq!(bye(Protocol::Chunked), chunked.as_bytes());
        assert_eq!(Protocol::Chunked.close_message(CloseReason::ShuttingDown), LAST_CHUNK);
        assert!(Protocol::Plain.close_message(CloseReason::ShuttingDown).is_empty());
    }

    #[test]
    fn the_reconnect_delays_of_connections_differ_within_the_range() {
        let delay = |line: Bytes| -> u32 {
            let line = String::from_utf8(line.to_vec()).expect("text");
            let digits = line.strip_prefix("retry: ").and_then(|line| line.strip_suffix('\n'));
            digits.and_then(|digits| digits.parse().ok()).expect("a delay")
        };
        let delays: Vec<_> =
            (0..100).map(|_| delay(Protocol::Plain.before_first_event())).collect();
        assert!(delays.iter().all(|delay| RETRY_MILLIS.contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| delay != &delays[0]), "{delays:?}");
        let chunk = Protocol::Chunked.before_first_event();
        assert!(chunk.starts_with(b"c\r\nretry: ") && chunk.ends_with(b"\n\r\n"), "{chunk:?}");
    }

    fn seeds(frames: Vec<Frame>) -> Seeds {
        Seeds { frames, ..Seeds::default() }
    }

    #[test]
    fn a_stream_starts_with_its_head_and_its_seed() {
        let frame = placed(1, "{}").frame;
        let start = |protocol: Protocol, opening| protocol.start(b"head".to_vec(), opening, false);
        let socket = start(Protocol::WebSocket, Opening::Seed(seeds(vec![frame.clone()])));
        assert_eq!(socket.bytes, [&b"head"[..], &frame.message()].concat());
        let events = start(Protocol::Plain, Opening::Gap(seeds(vec![frame.clone()])));
        let first_event = events.bytes.strip_prefix(b"headretry: ").expect("a delay");
        assert!(first_event[5..] == frame.initial_event().concat()[..] && first_event[4] == b'\n');
        assert_eq!((events.rounds, events.awaits_event, events.end), (1, false, None));
        let empty = start(Protocol::Chunked, Opening::Resumed(Resumed::default()));
        assert_eq!(empty.bytes, b"head8\r\n: open\n\n\r\n");
        assert!(empty.awaits_event && !socket.awaits_event);
        let gap = start(Protocol::WebSocket, Opening::Gap(seeds(vec![frame])));
        assert_eq!((gap.bytes, gap.end), (b"head".to_vec(), Some(CloseReason::Gap)));
    }

    #[test]
    fn only_the_last_of_several_seeds_has_an_id() {
        let frames = || vec![placed(1, "{}").frame, placed(2, "{}").frame];
        let text = |protocol: Protocol| -> String {
            let start = protocol.start(Vec::new(), Opening::Seed(seeds(frames())), false);
            let rounds = start.seeds.iter().map(|(_, rounds)| rounds).sum::<u32>();
            assert_eq!((start.rounds, rounds, start.awaits_event), (0, 2, false));
            let bytes = start.seeds.iter().flat_map(|(bytes, _)| bytes.to_vec());
            String::from_utf8(bytes.collect()).expect("text")
        };
        let [one, two] = [1, 2].map(|id| placed(id, "{}").frame);
        let data = String::from_utf8(one.data().to_vec()).expect("text");
        let last = String::from_utf8(two.initial_event().concat()).expect("text");
        assert_eq!(text(Protocol::Plain), format!("event: initial\n{data}{last}"));
        let first = format!("event: initial\n{data}");
        let size = first.len();
        let last = String::from_utf8(two.initial_chunk().concat()).expect("text");
        assert_eq!(text(Protocol::Chunked), format!("{size:x}\r\n{first}\r\n{last}"));
        let before_others = Protocol::Plain.seeds(&frames(), false);
        let bytes: Vec<u8> = before_others.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect();
        assert!(!String::from_utf8(bytes).expect("text").contains("id: "));
    }

    #[test]
    fn rounds_are_joined_in_order_and_up_to_the_limit() {
        let rounds: Vec<_> = (1..=500).map(|id| placed(id, &"x".repeat(300))).collect();
        for protocol in [Protocol::WebSocket, Protocol::Chunked, Protocol::Plain] {
            let budget = MemoryBudget::unlimited();
            let joined: Vec<_> = protocol.join(&rounds, &budget).collect();
            let all: Vec<_> = joined.iter().map(|joined| joined.segment.bytes.clone()).collect();
            let expected: Vec<_> = rounds.iter().map(|r| protocol.round(&r.frame)).collect();
            assert_eq!(all.concat(), expected.concat());
            assert!(joined.len() > 1 && all.iter().all(|bytes| bytes.len() <= JOINED_MAX));
            assert_eq!(joined.iter().map(|joined| joined.segment.rounds).sum::<u32>(), 500);
            assert_eq!(joined.last().map(|joined| joined.segment.last), Some(Position(500)));
        }
    }

    #[test]
    fn rounds_are_joined_one_segment_at_a_time() {
        let rounds: Vec<_> = (1..=500).map(|id| placed(id, &"x".repeat(1000))).collect();
        let budget = MemoryBudget::unlimited();
        let first = Protocol::WebSocket.join(&rounds, &budget).next().expect("rounds");
        assert!(first.segment.rounds > 1);
        assert!(budget.used(MemoryUse::queues) <= JOINED_MAX, "the others are not copied yet");
    }

    #[test]
    fn a_single_round_is_not_copied_whatever_its_size() {
        let rounds = [placed(1, "{}"), placed(2, &"x".repeat(JOINED_MAX)), placed(3, "{}")];
        let budget = MemoryBudget::unlimited();
        let joined: Vec<_> = Protocol::WebSocket.join(&rounds, &budget).collect();
        let starts: Vec<_> = joined.iter().map(|joined| joined.segment.bytes.as_ptr()).collect();
        let expected: Vec<_> = rounds.iter().map(|r| r.frame.message().as_ptr()).collect();
        assert_eq!(starts, expected);
    }
}
