//! The payload of a notification. Every role that can connect may send on our channel, so whatever
//! arrives is either well-formed or counted as invalid; it never fails anything.

use serde::Deserialize;

use crate::stream::round::RoundId;

/// The members that the audit compares with the outbox.
#[derive(Deserialize)]
struct Payload<'a> {
    round_id: RoundId,
    finished_at: &'a str,
}

/// A payload that does not have the trigger's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The round that a payload names.
pub(super) fn decode(payload: &str) -> Result<RoundId, Invalid> {
    let payload: Payload<'_> = serde_json::from_str(payload).map_err(|_| Invalid)?;
    // `infinity` and years beyond 9999 are PostgreSQL's, and no RFC 3339.
    let is_moment = payload.finished_at.ends_with("infinity")
        || payload.finished_at.starts_with(|first: char| first.is_ascii_digit());
    if is_moment { Ok(payload.round_id) } else { Err(Invalid) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"round_id":512,"game_id":1,"finished_at":"2026-01-17T00:45:42.5+00:00","extras":{"point": "11.72"}}"#;

    #[test]
    fn a_payload_of_the_trigger_is_decoded() {
        assert_eq!(decode(GOOD), Ok(RoundId::number(512)));
    }

    #[test]
    fn a_payload_may_name_a_round_by_a_string() {
        let payload = GOOD.replace("512", r#""b:7 \"é\"""#);
        assert_eq!(decode(&payload), Ok(RoundId::text("b:7 \"é\"").expect("an id")));
    }

    #[test]
    fn a_moment_that_no_round_on_the_stream_has_is_valid() {
        for moment in ["infinity", "-infinity", "294000-01-01T00:00:00+00:00"] {
            let payload = GOOD.replace("2026-01-17T00:45:42.5+00:00", moment);
            assert_eq!(decode(&payload), Ok(RoundId::number(512)));
        }
    }

    #[test]
    fn a_payload_of_another_form_is_invalid() {
        for garbage in [
            "",
            "x",
            "{}",
            "[]",
            "null",
            &GOOD.replace("512", "\"\""),
            &GOOD.replace("512", "1.5"),
            &GOOD[..40],
            &GOOD.replace("2026-01-17", "soon"),
        ] {
            assert_eq!(decode(garbage), Err(Invalid), "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in any::<String>()) {
            let _ = decode(&text);
        }

        #[test]
        fn no_change_of_a_good_payload_makes_the_decoder_panic(
            at in 0..GOOD.len(), byte in any::<char>(),
        ) {
            let mut text = GOOD.to_owned();
            text.replace_range(at..=at, &byte.to_string());
            let _ = decode(&text);
        }
    }
}
