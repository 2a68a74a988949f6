//! A replay from the database between the task that reads its pages and the shard that sends them.
//!
//! The shard asks for the next page when its socket has taken the last one, so that a client that
//! reads slowly holds one page. The shard sends nothing else to the client meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::command_queue::{Command, CommandQueue};
use crate::{
    stream::replay::{ReplayPage, StoredReader},
    transport::{close::CloseReason, replay_end},
};

/// Identifies a replay within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::transport) struct ReplayNumber(pub(in crate::transport) u64);

/// The shard's end. The task ends when this is dropped.
#[derive(Debug)]
pub(in crate::transport) struct ReplayHandle {
    pub(super) number: ReplayNumber,
    wanted: mpsc::Sender<()>,
}

/// The task's end.
#[derive(Debug)]
pub(in crate::transport) struct ReplayTask {
    number: ReplayNumber,
    wanted: mpsc::Receiver<()>,
    queue: Arc<CommandQueue>,
}

/// What the task sends to the shard.
#[derive(Debug)]
pub(in crate::transport) enum ReplayStep {
    /// The next rounds.
    Page(ReplayPage),
    /// All rounds were sent.
    End,
    /// No more can be read: close the connection.
    Failed(CloseReason),
}

/// Both ends of a replay.
pub(in crate::transport) fn new(
    number: ReplayNumber,
    queue: &Arc<CommandQueue>,
) -> (ReplayHandle, ReplayTask) {
    let (sender, wanted) = mpsc::channel(1);
    let queue = Arc::clone(queue);
    (ReplayHandle { number, wanted: sender }, ReplayTask { number, wanted, queue })
}

impl ReplayHandle {
    /// Without a task.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self { number: ReplayNumber(1), wanted: mpsc::channel(1).0 }
    }

    /// Asks for the next page.
    pub(super) fn request_page(&self) {
        // A full channel means that it was asked for already; without a task, a step is on its way.
        let _ = self.wanted.try_send(());
    }
}

impl ReplayTask {
    /// Reads the first page at once, and each other one when the shard asks for it.
    pub(in crate::transport) async fn run(mut self, mut reader: StoredReader) {
        loop {
            let (step, is_last) = match reader.next().await {
                Ok(Some(page)) => (ReplayStep::Page(page), false),
                Ok(None) => (ReplayStep::End, true),
                Err(error) => (ReplayStep::Failed(replay_end(&error)), true),
            };
            self.queue.push(Command::Replay(self.number, Box::new(step)));
            if is_last || self.wanted.recv().await.is_none() {
                return;
            }
        }
    }
}
