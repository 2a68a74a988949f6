//! The command queue of a shard: rounds, new connections and the stop, in one order.

use parking_lot::{Mutex, MutexGuard};
use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use mio::{Poll, Token, Waker};
use prometheus_client::metrics::gauge::Gauge;

use super::{
    granted_stream::OpenedStream,
    replay_task::{ReplayNumber, ReplayStep},
};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::hub::{Batch, Outlet, Placed},
};

/// The token of the waker. The token of a connection is its slot.
pub(super) const WAKE: Token = Token(usize::MAX);
/// After a burst, the queue keeps capacity for this many commands.
const CAPACITY_KEPT: usize = 1024;

/// A publisher waits while a queue has more than this part of the memory for queues.
const QUEUE_PART: usize = 8;

/// A command for the event loop.
#[derive(Debug)]
pub(in crate::transport) enum Command {
    /// Rounds for all subscribers of their topics.
    Publish(Batch),
    /// A connection whose stream starts at this point of the queue.
    Open(Box<OpenedStream>),
    /// The next step of a replay.
    Replay(ReplayNumber, Box<ReplayStep>),
    /// The server has lost its place in the stream: every stream ends.
    EndStreams,
    /// The process is stopping.
    Stop,
}

/// The queue from other threads to a shard. The hub pushes rounds and openings under one lock, and
/// so in the order of the stream.
#[derive(Debug)]
pub(in crate::transport) struct CommandQueue {
    state: Mutex<QueueState>,
    waker: Waker,
    /// Bytes of the rounds that were pushed and not handled.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The same of all shards.
    gauge: Gauge,
    /// Connections of the shard whose send queues are over their limit for now.
    behind: AtomicUsize,
}

#[derive(Debug, Default)]
struct QueueState {
    commands: Vec<Command>,
    /// Whether a push must wake the shard.
    is_asleep: bool,
    /// Set when the shard ends.
    is_closed: bool,
}

impl CommandQueue {
    pub(super) fn new(poll: &Poll, budget: &MemoryBudget, metrics: &Metrics) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            waker: Waker::new(poll.registry(), WAKE)?,
            bytes: AtomicUsize::new(0),
            bytes_max: budget.share(MemoryUse::queues) / QUEUE_PART,
            gauge: metrics.shard_queue_bytes.clone(),
            behind: AtomicUsize::new(0),
        })
    }

    /// Notes that rounds of so many bytes were handled, and how many connections are behind.
    pub(super) fn handled(&self, bytes: usize, behind: usize) {
        self.behind.store(behind, Ordering::Relaxed);
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.gauge.dec_by(bytes.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Appends a command. After the end of the shard, the command is dropped with its connection.
    pub(in crate::transport) fn push(&self, command: Command) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.commands.push(command);
        let was_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if was_asleep && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a shard");
        }
    }

    /// Takes all commands. The queue reuses the memory of `empty`.
    pub(super) fn take(&self, mut empty: Vec<Command>) -> Vec<Command> {
        empty.clear();
        empty.shrink_to(CAPACITY_KEPT);
        std::mem::replace(&mut self.state().commands, empty)
    }

    /// Marks the shard as asleep, unless commands wait. Returns whether it may sleep.
    pub(super) fn fall_asleep(&self) -> bool {
        let mut state = self.state();
        state.is_asleep = state.commands.is_empty();
        state.is_asleep
    }

    /// Marks the shard as awake.
    pub(super) fn awake(&self) {
        self.state().is_asleep = false;
    }

    /// Drops all commands, and all that follow.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let rest = std::mem::take(&mut state.commands);
        drop(state);
        drop(rest);
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }
}

impl Outlet for CommandQueue {
    fn publish(&self, batch: &Batch) {
        let bytes = batch_bytes(batch);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.inc_by(bytes.try_into().unwrap_or(i64::MAX));
        self.push(Command::Publish(batch.clone()));
    }

    fn end_streams(&self) {
        self.push(Command::EndStreams);
    }

    fn is_behind(&self) -> bool {
        let has_many = self.bytes.load(Ordering::Relaxed) > self.bytes_max;
        has_many || self.behind.load(Ordering::Relaxed) > 0
    }
}

/// The bytes of the rounds of a batch.
pub(super) fn batch_bytes(batch: &[Placed]) -> usize {
    batch.iter().map(|placed| placed.frame.size()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Events;

    use super::*;

    fn queue(poll: &Poll) -> CommandQueue {
        let (budget, metrics) = (MemoryBudget::unlimited(), Metrics::default());
        CommandQueue::new(poll, &budget, &metrics).expect("a queue")
    }

    #[test]
    fn a_push_wakes_the_shard_only_if_it_sleeps() {
        let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(4));
        let queue = queue(&poll);
        queue.push(Command::Stop);
        poll.poll(&mut events, Some(Duration::ZERO)).expect("a poll");
        assert!(events.is_empty());
        assert!(!queue.fall_asleep(), "a command waits");
        assert_eq!(queue.take(Vec::new()).len(), 1);
        assert!(queue.fall_asleep());
        queue.push(Command::Stop);
        poll.poll(&mut events, None).expect("a poll");
        assert_eq!(events.iter().next().map(mio::event::Event::token), Some(WAKE));
    }

    #[test]
    fn a_closed_queue_drops_all_commands() {
        let poll = Poll::new().expect("a poll");
        let queue = queue(&poll);
        queue.push(Command::Stop);
        queue.close();
        queue.push(Command::Stop);
        assert!(queue.take(Vec::new()).is_empty());
    }
}
