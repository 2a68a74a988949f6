//! Reads the sequence number and the time that the publisher puts into `extras`.

use anyhow::{Context, Result};
use serde::Deserialize;

/// Messages kept for comparison: more than are ever in flight.
const KEPT: usize = 256;
/// The beginning of every message.
const PREFIX: &[u8] = b"{\"round_id\":";

/// The fields of a round that the client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) round_id: u64,
    /// 0 for the round that seeds connections, then rising by one.
    pub(crate) seq: u64,
    /// The time before the publisher began the transaction.
    pub(crate) sent_us: i64,
}

#[derive(Deserialize)]
struct Round {
    round_id: u64,
    extras: String,
}

/// The content of `extras`.
#[derive(Deserialize)]
pub(crate) struct Extras {
    pub(crate) seq: u64,
    pub(crate) sent_us: i64,
}

/// Parses each message once. Thousands of connections receive the same bytes, and a comparison is much
/// cheaper than parsing. Different bytes are parsed.
#[derive(Debug)]
pub(crate) struct Reader {
    kept: Vec<(Vec<u8>, Stamp)>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { kept: vec![Default::default(); KEPT] }
    }
}

impl Reader {
    pub(crate) fn read(&mut self, json: &[u8]) -> Result<Stamp> {
        let slot = &mut self.kept[slot(json)];
        if slot.0 != json {
            *slot = (json.to_vec(), parse(json)?);
        }
        Ok(slot.1)
    }
}

fn slot(json: &[u8]) -> usize {
    let digits = json.iter().skip(PREFIX.len()).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_usize, |id, &digit| id.wrapping_mul(10).wrapping_add(usize::from(digit))) % KEPT
}

fn parse(json: &[u8]) -> Result<Stamp> {
    let text = || String::from_utf8_lossy(json).into_owned();
    let round: Round = serde_json::from_slice(json).with_context(text)?;
    let extras: Extras = serde_json::from_str(&round.extras).with_context(text)?;
    Ok(Stamp { round_id: round.round_id, seq: extras.seq, sent_us: extras.sent_us })
}

/// A round as the server sends it, for the floor, which has no database.
pub(crate) fn json(stamp: Stamp) -> Vec<u8> {
    let Stamp { round_id, seq, sent_us } = stamp;
    format!(
        r#"{{"round_id":{round_id},"game_id":1,"game_slug":"load","game_type":"load","finished_at":"2026-01-17T00:45:42.123456Z","extras":"{{\"seq\": {seq}, \"sent_us\": {sent_us}}}","timestamp":1768610742123}}"#
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_message_is_parsed_back() {
        let stamp = Stamp { round_id: 512, seq: 3, sent_us: 77 };
        let mut reader = Reader::default();
        assert_eq!(reader.read(&json(stamp)).expect("a round"), stamp);
        assert_eq!(reader.read(&json(stamp)).expect("again"), stamp);
        let other = Stamp { seq: 4, ..stamp };
        assert_eq!(reader.read(&json(other)).expect("other bytes, same id"), other);
    }

    #[test]
    fn a_message_without_a_sequence_number_is_an_error() {
        assert!(Reader::default().read(br#"{"round_id":1,"extras":"{}"}"#).is_err());
    }
}
