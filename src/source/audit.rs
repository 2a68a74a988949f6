//! Compares payloads with the outbox, and counts those that do not agree.
//!
//! Nothing is published from a payload. A payload that is malformed, or names a round that the
//! outbox does not have, comes from another sender than the trigger: operators want to know.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::payload::{self, Invalid};
use crate::{
    ops::{recent_set::RecentSet, telemetry::metrics::Metrics},
    stream::round::RoundId,
};

/// A round is in the outbox when its notification arrives, and the next poll finds it. A loaded
/// server may poll late.
const FOUND_WITHIN: Duration = Duration::from_secs(1);
/// Payloads that wait for their round; further ones are not compared.
const WAITING_MAX: usize = 1_024;
/// Found rounds that a late notification may name: a statement in mode `notify` may finish thousands.
const FOUND_MAX: usize = 65_536;
/// Any role can send notifications: at most one line in this time.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Payloads whose round no poll has found yet.
#[derive(Debug, Default)]
pub(super) struct Audit {
    waiting: VecDeque<(RoundId, Instant)>,
    /// The rounds that polls found.
    found: RecentSet<RoundId, FOUND_MAX>,
    /// Bad notifications since the last line.
    unreported: u64,
    reported: Option<Instant>,
}

impl Audit {
    /// Takes payloads that arrived.
    pub(super) fn receive(&mut self, payloads: &[String], metrics: &Metrics) {
        for payload in payloads {
            match payload::decode(payload) {
                Err(Invalid) => {
                    metrics.notifications_invalid_total.inc();
                    self.unreported += 1;
                }
                Ok(id) if self.is_new(&id) => self.waiting.push_back((id, Instant::now())),
                Ok(_) => {}
            }
        }
    }

    fn is_new(&self, id: &RoundId) -> bool {
        self.waiting.len() < WAITING_MAX && !self.found.contains(id)
    }

    /// Takes a round that a poll found, whether it was published or skipped.
    pub(super) fn find(&mut self, id: &RoundId) {
        self.waiting.retain(|(waiting, _)| waiting != id);
        self.found.insert(id.clone());
    }

    /// Counts payloads whose round no poll has found in time.
    pub(super) fn check(&mut self, now: Instant, metrics: &Metrics) {
        let late = |(_, at): &mut (RoundId, Instant)| now.duration_since(*at) > FOUND_WITHIN;
        while self.waiting.pop_front_if(late).is_some() {
            metrics.notifications_unknown_total.inc();
            self.unreported += 1;
        }
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        let is_due = self.reported.is_none_or(|last| now.duration_since(last) > LOG_EVERY);
        if self.unreported > 0 && is_due {
            tracing::warn!(
                count = self.unreported,
                "notifications on datastream_rounds are not the trigger's: another session sends \
                 them. They change no result. Find the sender in pg_stat_activity."
            );
            (self.unreported, self.reported) = (0, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(id: i64) -> String {
        format!(
            r#"{{"round_id":{id},"game_id":1,"finished_at":"1970-01-01T00:00:00Z","extras":{{}}}}"#
        )
    }

    #[test]
    fn a_payload_is_unknown_if_no_poll_finds_its_round_before_or_after_it() {
        let (mut audit, metrics) = (Audit::default(), Metrics::default());
        audit.find(&RoundId::number(1));
        audit.receive(&[payload(1), payload(2), payload(3)], &metrics);
        audit.find(&RoundId::number(2));
        audit.check(Instant::now(), &metrics);
        assert_eq!(metrics.notifications_unknown_total.get(), 0, "round 3 may still be found");
        audit.check(Instant::now() + FOUND_WITHIN * 2, &metrics);
        assert_eq!(metrics.notifications_unknown_total.get(), 1);
    }

    #[test]
    fn a_flood_of_payloads_is_bounded_and_logged_once_in_ten_seconds() {
        let (mut audit, metrics) = (Audit::default(), Metrics::default());
        let flood: Vec<_> = (0..5_000).map(payload).chain(["x".to_owned()]).collect();
        audit.receive(&flood, &metrics);
        assert_eq!(
            (audit.waiting.len(), metrics.notifications_invalid_total.get()),
            (WAITING_MAX, 1)
        );
        audit.check(Instant::now(), &metrics);
        assert_eq!(audit.unreported, 0, "reported");
        audit.receive(&["x".to_owned()], &metrics);
        audit.check(Instant::now(), &metrics);
        assert_eq!(audit.unreported, 1, "kept for the next line");
    }
}
