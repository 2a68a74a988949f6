//! What a shard is to do next: one queue for rounds, new connections and the stop.

use parking_lot::{Mutex, MutexGuard};
use std::io;

use mio::{Poll, Token, Waker};

use super::granted_stream::OpenedStream;
use crate::stream::hub::{Batch, Outlet};

/// The waker's; connections have their slot.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Room for more commands than this is given back after a burst.
const CAPACITY_KEPT: usize = 1024;

/// A thing to do.
#[derive(Debug)]
pub(in crate::transport) enum Command {
    /// Rounds for everyone whose topic they belong to.
    Publish(Batch),
    /// A connection with its stream opened at this place among the rounds.
    Open(Box<OpenedStream>),
    /// The process is stopping.
    Stop,
}

/// The way in to a shard. Whoever pushes under the hub's lock pushes in the order of the stream.
#[derive(Debug)]
pub(in crate::transport) struct CommandQueue {
    state: Mutex<QueueState>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct QueueState {
    commands: Vec<Command>,
    /// Whether the shard has to be woken.
    is_asleep: bool,
    /// Set when the shard is gone.
    is_closed: bool,
}

impl CommandQueue {
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok(Self { state: Mutex::default(), waker })
    }

    /// Puts a command behind the others. After the shard's end it is dropped, and with it the
    /// connection it may hold.
    pub(in crate::transport) fn push(&self, command: Command) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.commands.push(command);
        let was_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if was_asleep && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    /// Takes everything that waits, leaving `empty` in its place.
    pub(super) fn take(&self, mut empty: Vec<Command>) -> Vec<Command> {
        empty.clear();
        empty.shrink_to(CAPACITY_KEPT);
        std::mem::replace(&mut self.state().commands, empty)
    }

    /// Says that the shard is going to sleep; whether it may.
    pub(super) fn fall_asleep(&self) -> bool {
        let mut state = self.state();
        state.is_asleep = state.commands.is_empty();
        state.is_asleep
    }

    /// Says that the shard is awake.
    pub(super) fn awake(&self) {
        self.state().is_asleep = false;
    }

    /// Says that nobody will look at the queue any more.
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
        self.push(Command::Publish(batch.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Events;

    use super::*;

    #[test]
    fn a_shard_is_woken_only_when_it_sleeps() {
        let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(4));
        let queue = CommandQueue::new(&poll).expect("a queue");
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
    fn a_closed_inbox_keeps_nothing() {
        let poll = Poll::new().expect("a poll");
        let queue = CommandQueue::new(&poll).expect("a queue");
        queue.push(Command::Stop);
        queue.close();
        queue.push(Command::Stop);
        assert!(queue.take(Vec::new()).is_empty());
    }
}
