//! Notifications on their way from the connection to the capture: bounded, and never waited for.
//!
//! A notification only wakes the capture: it reads the outbox at once. Payloads are kept for the
//! [audit](super::audit) alone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use crate::postgres::client::Messages;

/// The channel of the trigger.
pub(super) const CHANNEL: &str = "datastream_rounds";
/// The channel on which a listener makes sure that notifications reach it.
pub(super) const PROBE_CHANNEL: &str = "datastream_probe";

/// How many probes must arrive. A pooler in transaction mode may deliver one by chance (1 in 12
/// runs).
pub(super) const PROBES: u32 = 4;

/// Messages that are taken from the connection together.
const MESSAGES_AT_ONCE: usize = 256;
/// Payloads kept for the audit; the rest are counted only. Each has at most 8,000 bytes.
const PAYLOADS_MAX: usize = 64;

/// The notifications since the last poll.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    /// The first payloads, as sent.
    pub(super) payloads: Vec<String>,
    /// How many notifications came, with a payload or without.
    pub(super) count: u64,
}

impl Notifications {
    fn push(&mut self, payload: &str) {
        self.count += 1;
        if self.payloads.len() < PAYLOADS_MAX && !payload.is_empty() {
            self.payloads.push(payload.to_owned());
        }
    }
}

/// Wakes the capture.
#[derive(Debug, Default)]
pub(super) struct WakeUps {
    waiting: Mutex<Notifications>,
    arrived: Notify,
    ended: AtomicBool,
    /// The number of the first of the [`PROBES`] that should arrive.
    first_probe: AtomicU64,
    /// A bit for each probe that has arrived.
    arrived_probes: AtomicU32,
}

impl WakeUps {
    /// Takes in the payloads of notifications that arrived together.
    fn push<'a>(&self, payloads: impl IntoIterator<Item = &'a str>) {
        {
            let mut waiting = self.waiting.lock();
            payloads.into_iter().for_each(|payload| waiting.push(payload));
        }
        self.arrived.notify_one();
    }

    /// Expects the [`PROBES`] from this number on.
    pub(super) fn expect_probes(&self, first: u64) {
        self.first_probe.store(first, Ordering::Release);
        self.arrived_probes.store(0, Ordering::Release);
    }

    fn take_probe(&self, payload: &str) {
        let first = self.first_probe.load(Ordering::Acquire);
        let place = payload.parse().ok().and_then(|number: u64| number.checked_sub(first));
        if let Some(place) = place.filter(|place| *place < u64::from(PROBES)) {
            self.arrived_probes.fetch_or(1 << place, Ordering::AcqRel);
        }
    }

    /// Whether all expected probes have arrived.
    pub(super) fn probes_arrived(&self) -> bool {
        self.arrived_probes.load(Ordering::Acquire).count_ones() == PROBES
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Whether the connection has ended.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until something arrived since the last call, or the connection ended. Cancel safe.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes all notifications since the last call.
    pub(super) fn take(&self) -> Notifications {
        std::mem::take(&mut *self.waiting.lock())
    }
}

/// Moves messages from the connection into the wake-ups until the connection ends.
pub(super) async fn receive(messages: Messages, wake_ups: Arc<WakeUps>) {
    let mut messages = messages.ready_chunks(MESSAGES_AT_ONCE);
    while let Some(together) = messages.next().await {
        for error in together.iter().filter_map(|message| message.as_ref().err()) {
            tracing::debug!(%error, "the LISTEN connection broke");
        }
        let sent: Vec<_> = together.iter().flatten().filter_map(notification).collect();
        let on = |name: &'static str| sent.iter().filter(move |(channel, _)| *channel == name);
        on(PROBE_CHANNEL).for_each(|(_, payload)| wake_ups.take_probe(payload));
        wake_ups.push(on(CHANNEL).map(|(_, payload)| *payload));
        if together.iter().any(Result::is_err) {
            break;
        }
    }
    wake_ups.end();
}

/// The channel and the payload of a notification.
fn notification(message: &AsyncMessage) -> Option<(&str, &str)> {
    match message {
        AsyncMessage::Notification(sent) => Some((sent.channel(), sent.payload())),
        AsyncMessage::Notice(notice) => {
            tracing::debug!(%notice, "notice of the database");
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_its_payloads_are_kept_up_to_the_bound() {
        let wake_ups = WakeUps::default();
        wake_ups.push(["x"; PAYLOADS_MAX + 1]);
        wake_ups.push([""; 3]);
        let waiting = wake_ups.take();
        assert_eq!(waiting.payloads.len(), PAYLOADS_MAX);
        assert_eq!(waiting.count, PAYLOADS_MAX as u64 + 4);
        assert_eq!(wake_ups.take().count, 0);
    }

    #[test]
    fn notifications_arrive_if_all_expected_probes_do() {
        let wake_ups = WakeUps::default();
        wake_ups.expect_probes(5);
        for payload in ["4", "9", "five 5", "5", "5", "6", "8"] {
            wake_ups.take_probe(payload);
        }
        assert!(!wake_ups.probes_arrived(), "7 is missing");
        wake_ups.take_probe("7");
        assert!(wake_ups.probes_arrived());
        wake_ups.expect_probes(6);
        assert!(!wake_ups.probes_arrived());
    }
}
