//! A shard: one thread, its sockets, and one queue of what to do with them.
//!
//! * **S1** Openings and rounds come through one queue, in the order of the stream: a connection
//!   gets its opening, then every later round of its topic, each once.
//! * **S2** Rounds that wait are joined once for all who get them, and go out with one call each.
//!   There is no timer that collects them: the fan-out under way is the window.
//! * **S3** Nobody is waited for. What a socket does not take waits in its [`send_queue`], bounded; a
//!   peer that takes too little for two heartbeats is reset; one that memory cannot refill, or that
//!   reads a replay too slowly, is told to resume.
//! * **S4** However a connection ends, it is counted once, with its reason.
//!
//! The thread sleeps only in `poll`, and is woken only when it sleeps.

mod command_queue;
mod connection;
mod fan_out;
mod granted_stream;
mod groups;
mod heartbeats;
mod peer;
mod protocol;
mod send_queue;
mod shard_metrics;
mod slots;

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

pub(super) use self::command_queue::{Command, CommandQueue};
use self::{
    command_queue::WAKE,
    connection::{Connection, SendOutcome},
    granted_stream::OpenedStream,
    groups::Groups,
    heartbeats::{Heartbeats, StopSchedule},
    send_queue::SendQueue,
    shard_metrics::ShardMetrics,
    slots::Slots,
};
pub(crate) use self::{
    granted_stream::GrantedStream,
    protocol::{Protocol, RETRY},
};
use super::close::CloseReason;
use crate::{
    ops::telemetry::metrics::Metrics,
    stream::{
        hub::{Hub, Joint, Position},
        round::UnixMillis,
    },
};

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// What is read from a socket at once. Shared by all: clients have little to say.
const READ_BYTES: usize = 16 * 1024;

/// What a shard is told by the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) heartbeat: Duration,
    pub(super) grace: Duration,
    /// How many shards there are.
    pub(super) shards: usize,
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Shard {
    settings: Settings,
    hub: Hub,
    metrics: ShardMetrics,
    poll: Poll,
    queue: Arc<CommandQueue>,
    slots: Slots<Connection>,
    groups: Groups,
    /// Slots with a backlog, to be looked at on each tick.
    with_queue: BTreeSet<u32>,
    /// Slots that had more to read than one turn takes.
    unread: Vec<u32>,
    /// Every round up to here was offered to everyone.
    offered: Position,
    /// Every round up to here was taken from the queue.
    taken: Position,
    /// When the rounds being sent were recorded.
    recorded: Vec<Instant>,
    buffer: Box<[u8]>,
    heartbeats: Heartbeats,
    stop: Option<StopSchedule>,
}

impl Shard {
    pub(super) fn new(settings: Settings, hub: Hub, metrics: &Metrics) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Self {
            settings,
            hub,
            metrics: ShardMetrics::new(metrics),
            queue: Arc::new(CommandQueue::new(&poll)?),
            poll,
            slots: Slots::default(),
            groups: Groups::default(),
            with_queue: BTreeSet::new(),
            unread: Vec::new(),
            offered: Position(0),
            taken: Position(0),
            recorded: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            heartbeats: Heartbeats::new(settings.heartbeat, Instant::now()),
            stop: None,
        })
    }

    /// The way in.
    pub(super) fn queue(&self) -> &Arc<CommandQueue> {
        &self.queue
    }

    /// Works until a stop is over.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut commands = Vec::new();
        while !self.is_done() {
            commands = self.queue.take(commands);
            for command in commands.drain(..) {
                self.handle_command(command);
            }
            self.fan_out();
            self.run_timers();
            self.read_unread();
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
        self.slots.count() == 0 || stop.is_over(Instant::now())
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Publish(batch) => self.queue_rounds(&batch),
            Command::Open(stream) => self.open(*stream),
            Command::Stop => {
                let Settings { shards, grace, .. } = self.settings;
                let connections = self.slots.end() as usize;
                self.stop = Some(StopSchedule::new(connections, shards, grace, Instant::now()));
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let until = match &self.stop {
            Some(stop) => stop.tick().min(self.heartbeats.until_next(now)),
            None => self.heartbeats.until_next(now),
        };
        let may_sleep = self.unread.is_empty() && self.queue.fall_asleep();
        let timeout = if may_sleep { until } else { Duration::ZERO };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn handle_event(&mut self, event: &mio::event::Event) {
        let Token(slot) = event.token();
        if event.token() == WAKE {
            return;
        }
        let slot = slot as u32;
        if event.is_writable() {
            self.flush(slot, Instant::now());
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.on_readable(slot);
        }
    }

    fn open(&mut self, stream: OpenedStream) {
        let OpenedStream { socket, unread, head, protocol, permits, topic, joint } = stream;
        // What came before the opening is for those who are here already. Where that finds the
        // last of them gone, the list is gone with it; so it is looked up after.
        let others = self.groups.number(topic.clone(), protocol, joint.position);
        self.fan_out_list(others);
        let group = self.groups.number(topic, protocol, joint.position);
        self.taken = self.taken.max(joint.position);
        let slot = self.slots.insert(Connection::new(socket, protocol, permits));
        let member_index = self.groups.add(group, slot);
        self.metrics.stream(protocol);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        (connection.group, connection.member_index) = (group, member_index);
        let registered = self.poll.registry().register(
            &mut connection.socket,
            Token(slot as usize),
            Interest::READABLE | Interest::WRITABLE,
        );
        if registered.is_err() {
            return self.drop_connection(slot, CloseReason::Failed);
        }
        self.push_started(slot, head, joint);
        if !unread.is_empty() {
            self.handle_bytes(slot, &mut unread.to_vec());
        }
        if self.stop.is_some() {
            self.end(slot, CloseReason::ShuttingDown);
        }
    }

    /// Sends what a stream starts with.
    fn push_started(&mut self, slot: u32, head: Vec<u8>, joint: Joint) {
        let patience = self.patience();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let protocol = connection.protocol;
        let start = protocol.start(head, joint.opening);
        let sent = connection.send(&start.bytes);
        let is_ordinary = start.replay.is_empty() && start.end.is_none();
        let taken = match sent {
            SendOutcome::All if is_ordinary => {
                return self.metrics.written(protocol, start.seeds.into());
            }
            SendOutcome::All => start.bytes.len(),
            SendOutcome::Partial(taken) => taken,
            SendOutcome::Queued | SendOutcome::Broken => 0,
        };
        let mut send_queue = Box::new(SendQueue::new(joint.position));
        send_queue.push_rest(start.bytes.into(), start.seeds, taken);
        for frame in &start.replay {
            send_queue.push_kept(protocol.round(frame), 1);
        }
        if !start.replay.is_empty() {
            send_queue.limit_replay(Instant::now(), patience);
        }
        connection.send_queue = Some(send_queue);
        match start.end {
            Some(reason) => self.close(slot, reason, protocol.close_message(reason)),
            None => self.flush(slot, Instant::now()),
        }
    }

    /// Heartbeats, slow connections, and goodbyes, each when it is due.
    fn run_timers(&mut self) {
        let now = Instant::now();
        if let Some((first, step)) = self.heartbeats.due(now) {
            self.send_heartbeats(first, step);
            self.close_slow(now);
        }
        let told = self.stop.as_mut().map_or(0..0, |stop| stop.due(now));
        for slot in told.start..told.end.min(self.slots.end()) {
            self.end(slot, CloseReason::ShuttingDown);
        }
    }

    fn send_heartbeats(&mut self, first: u32, step: usize) {
        let now = UnixMillis::now();
        let heartbeats = [Protocol::WebSocket, Protocol::Chunked, Protocol::Plain]
            .map(|protocol| protocol.heartbeat(now));
        for slot in (first..self.slots.end()).step_by(step) {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            // What waits for the socket is a sign of life as well, and judged by its progress.
            if connection.send_queue.as_ref().is_some_and(|send_queue| send_queue.has_bytes())
                || connection.is_closing()
            {
                continue;
            }
            if connection.ping() {
                let beat = heartbeats[connection.protocol as usize].clone();
                self.send_alone(slot, beat);
            } else {
                self.end(slot, CloseReason::NoPong);
            }
        }
    }

    /// Lets go who takes too little or does not leave, and forgets backlogs that are over.
    fn close_slow(&mut self, now: Instant) {
        for slot in std::mem::take(&mut self.with_queue) {
            // Lists it again where there is still something apart.
            self.flush(slot, now);
            self.close_if_slow(slot, now);
        }
    }

    fn close_if_slow(&mut self, slot: u32, now: Instant) {
        // A tick less, so that nobody stays longer than it is said.
        let patience = self.patience().saturating_sub(self.heartbeats.tick());
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Some(send_queue) = &connection.send_queue else { return };
        if send_queue.is_close_overdue(now) {
            connection.reset();
            self.slots.remove(slot);
        } else if !send_queue.is_closing() && send_queue.is_stalled(now, patience) {
            connection.reset();
            self.drop_connection(slot, CloseReason::TooSlow);
        } else if send_queue.is_replay_overdue(now) {
            // It does read, and so is told.
            self.end(slot, CloseReason::TooSlow);
        }
    }

    /// How long a peer may take too little.
    fn patience(&self) -> Duration {
        self.settings.heartbeat * 2
    }
}

impl Drop for Shard {
    /// Nobody is to wait in a queue that nobody reads, whatever ended the thread.
    fn drop(&mut self) {
        self.queue.close();
    }
}
