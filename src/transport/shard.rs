//! A shard: one thread with an event loop, its sockets and one command queue.
//!
//! * **S1** Openings and rounds pass through one queue, in the order of the stream. A connection
//!   gets its opening, then every later round of its topic, each once.
//! * **S2** Rounds that wait are joined once per topic and protocol. Each socket gets them with one
//!   call. No timer collects rounds: those that arrive during a fan-out go out with the next one.
//! * **S3** The shard waits for no connection. Bytes that a socket does not accept wait in its
//!   [`send_queue`], which is bounded. A peer that takes too little for two heartbeats is reset. A
//!   peer is closed with 1013 if the ring buffers no longer hold its next round, or if it reads a
//!   replay too slowly. A replay is read in pages, as its peer takes them.
//! * **S4** A turn reads a bounded number of bytes from clients, and then looks for rounds. A client
//!   that sends too much is closed with 1008.
//! * **S5** Each closed connection is counted once, with its reason.
//!
//! The thread sleeps only in `poll`. Other threads wake it only while it sleeps.

mod command_queue;
mod connection;
mod connections;
mod fan_out;
mod granted_stream;
mod groups;
mod heartbeats;
mod leases;
mod openings;
mod protocol;
mod reads;
mod replay_task;
mod send_queue;
mod shard_metrics;
mod socket;

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};

pub(super) use self::{
    command_queue::{Command, CommandQueue},
    replay_task::ReplayNumber,
};
use self::{
    command_queue::{WAKE, batch_bytes},
    connections::Connections,
    fan_out::FanOut,
    granted_stream::OpenedStream,
    heartbeats::{Heartbeats, StopSchedule},
    reads::Reads,
};
pub(crate) use self::{
    granted_stream::{GrantedStream, Permits},
    protocol::{Protocol, retry_line},
};
use super::close::CloseReason;
use crate::{
    access::CurrentKeys,
    ops::{memory_budget::MemoryBudget, telemetry::metrics::Metrics},
    stream::hub::Hub,
};

/// The most events taken from the kernel in one call.
const EVENTS: usize = 1024;

/// The configuration of the shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardSettings {
    /// How many threads.
    pub count: NonZeroUsize,
    /// The time between two pings or heartbeat comments.
    pub heartbeat: Duration,
    /// How long a shutdown may take.
    pub grace: Duration,
}

/// The event loop of a shard.
#[derive(Debug)]
pub(super) struct Shard {
    settings: ShardSettings,
    poll: Poll,
    queue: Arc<CommandQueue>,
    connections: Connections,
    fan_out: FanOut,
    reads: Reads,
    heartbeats: Heartbeats,
    stop: Option<StopSchedule>,
}

impl Shard {
    pub(super) fn new(
        settings: ShardSettings,
        hub: Hub,
        budget: &MemoryBudget,
        keys: CurrentKeys,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Self {
            settings,
            queue: Arc::new(CommandQueue::new(&poll, budget, metrics)?),
            poll,
            connections: Connections::new(settings.heartbeat, hub, budget.clone(), keys, metrics),
            fan_out: FanOut::default(),
            reads: Reads::new(Instant::now()),
            heartbeats: Heartbeats::new(settings.heartbeat, Instant::now()),
            stop: None,
        })
    }

    /// The queue through which other threads reach this shard.
    pub(super) fn queue(&self) -> &Arc<CommandQueue> {
        &self.queue
    }

    /// Runs the event loop until a stop is complete.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut commands = Vec::new();
        while !self.is_done() {
            commands = self.queue.take(commands);
            let mut bytes = 0;
            for command in commands.drain(..) {
                if let Command::Publish(batch) = &command {
                    bytes += batch_bytes(batch);
                }
                self.handle_command(command);
            }
            self.fan_out.send_all(&mut self.connections);
            self.queue.handled(bytes, self.connections.behind());
            self.run_timers();
            self.read_turn();
            self.wait(&mut events)?;
            self.queue.awake();
            for event in &events {
                self.handle_event(event);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        self.connections.is_empty() || stop.is_over(Instant::now())
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Publish(batch) => self.fan_out.queue_rounds(&mut self.connections, &batch),
            Command::Open(stream) => self.open(*stream),
            Command::Replay(number, step) => self.connections.on_replay_step(number, *step),
            Command::EndStreams => {
                self.fan_out.send_all(&mut self.connections);
                let slots = 0..self.connections.slots_in_use() as u32;
                self.connections.end_slots(slots, CloseReason::PlaceLost);
            }
            Command::Stop => {
                let ShardSettings { count, grace, .. } = self.settings;
                let slots = self.connections.slots_in_use();
                self.stop = Some(StopSchedule::new(slots, count.get(), grace, Instant::now()));
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let until = match &self.stop {
            Some(stop) => stop.tick().min(self.heartbeats.until_next(now)),
            None => self.heartbeats.until_next(now),
        };
        let may_sleep = self.reads.is_empty() && self.queue.fall_asleep();
        let timeout = if may_sleep { until } else { Duration::ZERO };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// No event can be for an earlier connection of the same slot: slots are assigned between the
    /// handling of one set of events and the next `poll`, and a dropped socket leaves the poll.
    fn handle_event(&mut self, event: &mio::event::Event) {
        let Token(slot) = event.token();
        if event.token() == WAKE {
            return;
        }
        let slot = slot as u32;
        if event.is_writable() {
            self.connections.flush(slot, Instant::now());
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.reads.mark(&mut self.connections, slot);
        }
    }

    /// Reads from clients, within the bounds of a turn: rounds come first.
    fn read_turn(&mut self) {
        if !self.reads.is_empty() {
            self.reads.read_turn(&mut self.connections, Instant::now());
        }
    }

    fn open(&mut self, stream: OpenedStream) {
        let OpenedStream { socket, unread, head, protocol, permits, lease, topic, joint, replay } =
            stream;
        // Rounds before the opening are for the members that the group has already.
        self.fan_out.send_until(&mut self.connections, &topic, protocol, joint.position);
        let connections = &mut self.connections;
        let slot = connections.insert(socket, protocol, permits, topic, joint.position);
        connections.leases.set(slot, lease);
        if connections.register(slot, self.poll.registry()).is_err() {
            return connections.drop_connection(slot, CloseReason::Failed);
        }
        connections.send_opening(slot, head, joint, replay);
        if !unread.is_empty() {
            connections.handle_bytes(slot, &mut unread.to_vec());
        }
        if self.stop.is_some() {
            connections.end(slot, CloseReason::ShuttingDown);
        }
    }

    /// Ends streams whose lease has ended, sends heartbeats, closes slow connections, and closes all
    /// of them in a stop, as each is due.
    fn run_timers(&mut self) {
        let now = Instant::now();
        if let Some((first, step)) = self.heartbeats.due(now) {
            for (slot, reason) in self.connections.leases.take_lapsed(first, step) {
                self.connections.end(slot, reason);
            }
            self.connections.send_heartbeats(first, step);
            self.connections.close_slow(now, self.heartbeats.tick());
            self.reads.drain(&mut self.connections);
        }
        if let Some(stop) = &mut self.stop {
            self.connections.end_slots(stop.due(now), CloseReason::ShuttingDown);
        }
    }
}

impl Drop for Shard {
    /// Closes the queue, whatever ended the thread: a connection must not wait in a queue that no
    /// thread reads.
    fn drop(&mut self) {
        self.queue.close();
    }
}
