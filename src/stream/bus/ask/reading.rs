//! How far an edge has read the log, for resume points of rounds that another edge delivered.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};

use crate::stream::bus::{LeaderView, log::Log};

/// An edge is milliseconds behind another one, unless NATS elects a leader.
const READ_WITHIN: Duration = Duration::from_millis(1_500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Follows the edge.
#[derive(Debug)]
pub(super) struct Reading {
    read: watch::Receiver<u64>,
    leader: watch::Receiver<Option<LeaderView>>,
    last: Mutex<Option<Look>>,
}

/// A look at the end of the log.
#[derive(Clone, Copy, Debug)]
struct Look {
    begun: Instant,
    has_read: bool,
}

impl Reading {
    pub(super) fn new(
        read: watch::Receiver<u64>,
        leader: watch::Receiver<Option<LeaderView>>,
    ) -> Self {
        Self { read, leader, last: Mutex::default() }
    }

    /// Waits until the edge has read what the log had when this was called; returns whether it has.
    /// Clients that come together share a look at its end.
    pub(super) async fn to_end<L: Log>(&self, log: &L) -> bool {
        let requested = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(look) = last.filter(|look| look.begun >= requested) {
            return look.has_read;
        }
        let begun = Instant::now();
        let has_read = tokio::time::timeout(READ_WITHIN, self.read_up_to(self.end(log))).await;
        let look = Look { begun, has_read: has_read.is_ok() };
        *last = Some(look);
        look.has_read
    }

    /// The end of the log. A mirror may lack messages that its leader has named in its beat.
    async fn end<L: Log>(&self, log: &L) -> u64 {
        loop {
            match log.ends().await {
                Ok(ends) => {
                    let named = self.leader.borrow().as_ref().map_or(0, |view| view.beat.end);
                    return ends.last.max(named);
                }
                // While NATS elects a leader of the stream.
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn read_up_to(&self, end: impl Future<Output = u64>) {
        let end = end.await;
        // The sender lives as long as the edge.
        let _ = self.read.clone().wait_for(|read| *read >= end).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::stream::bus::tests::{memory_log::MemoryLog, patience::beat};

    /// The end of a new [`MemoryLog`].
    const END: u64 = 1_000;

    fn reading(read: u64) -> (Reading, watch::Sender<u64>) {
        let (sender, read) = watch::channel(read);
        (Reading::new(read, watch::channel(None).1), sender)
    }

    #[tokio::test]
    async fn an_edge_that_reads_up_to_the_end_has_it() {
        let (log, (reading, read)) = (MemoryLog::new(), reading(END - 1));
        let mut waiting = std::pin::pin!(reading.to_end(&log));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        read.send_replace(END);
        assert!(waiting.await);
    }

    #[tokio::test]
    async fn an_edge_that_stays_behind_says_so_in_time() {
        let (log, (reading, _read)) = (MemoryLog::new(), reading(END - 1));
        let begun = Instant::now();
        assert!(!reading.to_end(&log).await);
        assert!(begun.elapsed() >= READ_WITHIN);
    }

    #[tokio::test]
    async fn an_edge_waits_for_the_end_while_nats_elects_a_leader() {
        let (log, (reading, _read)) = (MemoryLog::new(), reading(END));
        log.set_electing(true);
        let mut waiting = std::pin::pin!(reading.to_end(&log));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        log.set_electing(false);
        assert!(waiting.await);
        log.set_electing(true);
        assert!(!reading.to_end(&log).await, "nobody knows the end");
    }

    #[tokio::test]
    async fn an_edge_of_a_mirror_waits_for_what_the_leader_has_named() {
        let log = MemoryLog::new();
        let (read, following) = watch::channel(END);
        let view = LeaderView { beat: beat(1, END + 2), received: Instant::now() };
        let reading = Reading::new(following, watch::channel(Some(view)).1);
        assert!(!reading.to_end(&log).await);
        read.send_replace(END + 2);
        assert!(reading.to_end(&log).await);
    }

    #[tokio::test]
    async fn clients_that_come_during_a_look_share_the_next_one() {
        let (log, (reading, read)) = (MemoryLog::new(), reading(END - 1));
        let mut first = std::pin::pin!(reading.to_end(&log));
        assert_eq!(first.as_mut().now_or_never(), None);
        let mut later =
            std::pin::pin!(futures_util::future::join_all((0..9).map(|_| reading.to_end(&log))));
        assert!(later.as_mut().now_or_never().is_none());
        read.send_replace(END);
        assert!(first.await);
        assert_eq!(later.await, [true; 9]);
        assert_eq!(log.looks(), 2);
    }
}
