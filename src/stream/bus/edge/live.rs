//! What the stream publishes again, between NATS and the edge.

use std::collections::VecDeque;

use async_nats::Subscriber;
use futures_util::StreamExt;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::stream::bus::{BusError, read::LogEntry};

/// Messages that wait for the edge, up to so many bytes. The client library counts messages, not bytes:
/// 65,536 rounds of 1 MiB would be 64 GiB. One beyond is dropped: the edge then misses it, and reads it by
/// a direct get.
#[derive(Debug)]
pub(super) struct LiveMessages {
    waiting: Mutex<VecDeque<LogEntry>>,
    arrived: Notify,
    most: usize,
    /// Their bytes.
    bytes: Gauge,
}

impl LiveMessages {
    /// At most so many bytes, shown by this gauge.
    pub(super) fn up_to(most: usize, bytes: Gauge) -> Self {
        bytes.set(0);
        Self { waiting: Mutex::default(), arrived: Notify::new(), most, bytes }
    }

    /// Takes the messages of a subscription until it ends.
    pub(super) async fn take_from(&self, mut subscriber: Subscriber) -> BusError {
        while let Some(message) = subscriber.next().await {
            LogEntry::of(message).into_iter().for_each(|entry| self.push(entry));
        }
        BusError::Unavailable("the subscription ended".to_owned())
    }

    fn push(&self, entry: LogEntry) {
        let size = entry.size() as i64;
        if self.bytes.get() + size > self.most as i64 {
            return;
        }
        self.bytes.inc_by(size);
        self.waiting.lock().push_back(entry);
        self.arrived.notify_one();
    }

    /// The next message.
    pub(super) async fn next(&self) -> LogEntry {
        loop {
            if let Some(entry) = self.try_next() {
                return entry;
            }
            self.arrived.notified().await;
        }
    }

    /// The next message, if one waits.
    pub(super) fn try_next(&self) -> Option<LogEntry> {
        let entry = self.waiting.lock().pop_front()?;
        self.bytes.dec_by(entry.size() as i64);
        Some(entry)
    }
}

impl Drop for LiveMessages {
    fn drop(&mut self) {
        self.bytes.set(0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn entry(seq: u64) -> LogEntry {
        let (subject, headers) = ("s".to_owned(), Default::default());
        LogEntry { seq, subject, headers, payload: vec![0; 1 << 20].into() }
    }

    #[test]
    fn large_messages_that_the_edge_does_not_take_are_dropped_beyond_the_bound() {
        let bytes = Gauge::default();
        let live = LiveMessages::up_to(8 << 20, bytes.clone());
        (1..=100).for_each(|seq| live.push(entry(seq)));
        assert!(bytes.get() > 7 << 20 && bytes.get() <= 8 << 20, "{} bytes", bytes.get());
        let mut taken = Vec::new();
        while let Some(entry) = live.next().now_or_never() {
            taken.push(entry.seq);
        }
        assert_eq!((taken, bytes.get()), ((1..=7).collect(), 0));
        live.push(entry(200));
        assert_eq!(live.next().now_or_never().map(|entry| entry.seq), Some(200));
        live.push(entry(201));
        drop(live);
        assert_eq!(bytes.get(), 0);
    }
}
