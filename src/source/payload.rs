//! What a notification says. Anybody who can connect may NOTIFY our channel, so whatever arrives
//! is either a well-formed payload or a mere ring of the bell; it never fails anything.

use std::{sync::Arc, time::Instant};

use serde::Deserialize;

use super::snapshot::Snapshot;
use crate::stream::{
    hub::Captured,
    round::{FinishedAt, Game, GameId, Round, RoundId, UnixMillis},
    transaction::Xid,
};

/// A notification on `datastream_rounds`.
#[derive(Debug)]
pub(crate) enum Notification {
    /// A finished round, with all that is needed to put it on the stream.
    Round(Box<Payload>),
    /// "Look at the outbox": no payload, or one that cannot be streamed as it is.
    Ring,
    /// Not of our making; counted, and otherwise a ring.
    Invalid,
}

/// A finished round as the trigger describes it.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) xid: Xid,
    /// What the finishing transaction saw.
    pub(crate) snapshot: Snapshot,
    pub(crate) round_id: RoundId,
    pub(crate) game_id: GameId,
    pub(crate) finished_at: FinishedAt,
    pub(crate) extras: Box<str>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    xid: &'a str,
    snap: &'a str,
    round_id: i64,
    game_id: i64,
    finished_at: i64,
    extras: Box<str>,
}

impl Payload {
    /// The round as it goes on the stream, from now on.
    pub(crate) fn into_captured(self, game: &Game) -> Captured {
        let round = Round {
            round_id: self.round_id,
            game_id: self.game_id,
            game_slug: Arc::clone(&game.slug),
            game_type: Arc::clone(&game.kind),
            finished_at: self.finished_at,
            extras: self.extras,
            timestamp: UnixMillis::now(),
        };
        let recorded = Some(Instant::now());
        Captured { round, xid: self.xid, before: self.snapshot.xmin(), recorded }
    }
}

impl Notification {
    /// Whether this transaction may have sent it.
    pub(crate) fn may_be_of(&self, xid: Xid) -> bool {
        match self {
            Self::Round(payload) => payload.xid == xid,
            Self::Ring | Self::Invalid => true,
        }
    }

    /// Decodes a payload, whatever it holds.
    pub(crate) fn decode(text: &str) -> Self {
        if text.is_empty() {
            return Self::Ring;
        }
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(text) else { return Self::Invalid };
        let (Ok(xid), Ok(snapshot)) = (wire.xid.parse(), wire.snap.parse()) else {
            return Self::Invalid;
        };
        // Out of range: the poll finds the row and counts it.
        let Some(finished_at) = FinishedAt::from_micros(wire.finished_at) else {
            return Self::Ring;
        };
        Self::Round(Box::new(Payload {
            xid: Xid(xid),
            snapshot,
            round_id: RoundId(wire.round_id),
            game_id: GameId(wire.game_id),
            finished_at,
            extras: wire.extras,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"xid" : "9", "snap" : "9:9:", "round_id" : 512, "game_id" : 1, "finished_at" : 1768610742000000, "extras" : "{\"point\": \"11.72\"}"}"#;

    #[test]
    fn a_payload_of_the_trigger_is_decoded() {
        let Notification::Round(payload) = Notification::decode(GOOD) else { panic!("no round") };
        assert_eq!(payload.round_id, RoundId(512));
        assert_eq!(&*payload.extras, r#"{"point": "11.72"}"#);
        assert_eq!(payload.finished_at.to_string(), "2026-01-17T00:45:42Z");
    }

    #[test]
    fn an_empty_payload_is_a_ring_and_garbage_is_invalid() {
        assert!(matches!(Notification::decode(""), Notification::Ring));
        for garbage in ["x", "{}", "[]", "null", &GOOD.replace("\"9\"", "\"x\""), &GOOD[..40]] {
            assert!(matches!(Notification::decode(garbage), Notification::Invalid), "{garbage}");
        }
    }

    #[test]
    fn a_year_beyond_9999_is_left_to_the_poll() {
        let far = GOOD.replace("1768610742000000", "9223372036854775807");
        assert!(matches!(Notification::decode(&far), Notification::Ring));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in any::<String>()) {
            let _ = Notification::decode(&text);
        }

        #[test]
        fn no_change_of_a_good_payload_makes_the_decoder_panic(
            at in 0..GOOD.len(), byte in any::<char>(),
        ) {
            let mut text = GOOD.to_owned();
            text.replace_range(at..=at, &byte.to_string());
            let _ = Notification::decode(&text);
        }
    }
}
