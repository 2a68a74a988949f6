//! Notifications on their way from the connection to the capture: bounded, and never waited for.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::lock::lock;

/// Payloads worth looking at one by one; when more wait, one poll finds them all sooner
/// (0.86 ms for 1,000 rounds).
const PAYLOADS_MAX: usize = 64;

/// What has arrived since the last look.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    ended: AtomicBool,
    expected: AtomicU64,
    probed: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Payloads as sent, in the order of their commits; empty when there were too many.
    pub(super) payloads: Vec<String>,
    /// How many notifications came, whatever they held.
    pub(super) count: u64,
}

impl Inbox {
    /// Takes in what arrived together, so that it is looked at together.
    pub(super) fn push<'a>(&self, payloads: impl IntoIterator<Item = &'a str>) {
        {
            let mut waiting = lock(&self.waiting);
            payloads.into_iter().for_each(|payload| waiting.push(payload));
        }
        self.arrived.notify_one();
    }

    /// Says which probe to listen for; other nodes send theirs on the same channel.
    pub(super) fn expect_probe(&self, number: u64) {
        self.expected.store(number, Ordering::Release);
        self.probed.store(false, Ordering::Release);
    }

    /// Takes note of a probe.
    pub(super) fn hear_probe(&self, text: &str) {
        if text.parse() == Ok(self.expected.load(Ordering::Acquire)) {
            self.probed.store(true, Ordering::Release);
        }
    }

    /// Whether the expected probe has arrived.
    pub(super) fn heard_probe(&self) -> bool {
        self.probed.load(Ordering::Acquire)
    }

    /// Says that the connection is gone.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until something arrived since the last look. Cancel safe.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *lock(&self.waiting))
    }
}

impl Waiting {
    fn push(&mut self, payload: &str) {
        self.count += 1;
        if self.count <= PAYLOADS_MAX as u64 {
            self.payloads.push(payload.to_owned());
        } else {
            self.payloads.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_its_payloads_are_left_to_the_poll() {
        let inbox = Inbox::default();
        inbox.push([""; PAYLOADS_MAX]);
        assert_eq!(inbox.take().payloads.len(), PAYLOADS_MAX);
        inbox.push([""; PAYLOADS_MAX + 1]);
        let waiting = inbox.take();
        assert_eq!((waiting.payloads.len(), waiting.count), (0, PAYLOADS_MAX as u64 + 1));
    }
}
