//! A shard: one thread, its sockets, and one queue of what to do with them.
//!
//! * **S1** Openings and rounds come through one queue, in the order of the stream: a connection
//!   gets its opening, then every later round of its topic, each once.
//! * **S2** Rounds that wait are joined once for all who get them, and go out with one call each.
//!   There is no timer that collects them: the fan-out under way is the window.
//! * **S3** Nobody is waited for. What a socket does not take waits in its [`backlog`], bounded; a
//!   peer that takes too little for two heartbeats is reset; one that memory cannot refill, or that
//!   reads a replay too slowly, is told to resume.
//! * **S4** However a connection ends, it is counted once, with its reason.
//!
//! The thread sleeps only in `poll`, and is woken only when it sleeps.

mod arrival;
mod backlog;
mod beats;
mod connection;
mod fan_out;
mod inbox;
mod ledger;
mod lists;
mod peer;
mod slots;
mod wire;

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

pub(super) use self::inbox::{Command, Inbox};
pub(crate) use self::{
    arrival::Arrival,
    wire::{Protocol, RETRY},
};
use self::{
    arrival::Opened,
    backlog::Backlog,
    beats::{Beats, Stop},
    connection::{Connection, Sent},
    inbox::WAKE,
    ledger::Ledger,
    lists::Lists,
    slots::Slots,
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
    ledger: Ledger,
    poll: Poll,
    inbox: Arc<Inbox>,
    slots: Slots<Connection>,
    lists: Lists,
    /// Slots with a backlog, to be looked at on each tick.
    apart: BTreeSet<u32>,
    /// Slots that had more to read than one turn takes.
    unread: Vec<u32>,
    /// Every round up to here was offered to everyone.
    offered: Position,
    /// Every round up to here was taken from the queue.
    taken: Position,
    /// When the rounds being sent were recorded.
    recorded: Vec<Instant>,
    buffer: Box<[u8]>,
    beats: Beats,
    stop: Option<Stop>,
}

impl Shard {
    pub(super) fn new(settings: Settings, hub: Hub, metrics: &Metrics) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Self {
            settings,
            hub,
            ledger: Ledger::new(metrics),
            inbox: Arc::new(Inbox::new(&poll)?),
            poll,
            slots: Slots::default(),
            lists: Lists::default(),
            apart: BTreeSet::new(),
            unread: Vec::new(),
            offered: Position(0),
            taken: Position(0),
            recorded: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            beats: Beats::new(settings.heartbeat, Instant::now()),
            stop: None,
        })
    }

    /// The way in.
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Works until a stop is over.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut commands = Vec::new();
        while !self.is_done() {
            commands = self.inbox.take(commands);
            for command in commands.drain(..) {
                self.obey(command);
            }
            self.fan_out();
            self.keep_time();
            self.read_on();
            self.wait(&mut events)?;
            self.inbox.awake();
            for event in &events {
                self.heed(event);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        self.slots.count() == 0 || stop.is_over(Instant::now())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Publish(batch) => self.note(&batch),
            Command::Open(opened) => self.open(*opened),
            Command::Stop => {
                let Settings { shards, grace, .. } = self.settings;
                let connections = self.slots.end() as usize;
                self.stop = Some(Stop::new(connections, shards, grace, Instant::now()));
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let until = match &self.stop {
            Some(stop) => stop.tick().min(self.beats.until_next(now)),
            None => self.beats.until_next(now),
        };
        let may_sleep = self.unread.is_empty() && self.inbox.fall_asleep();
        let timeout = if may_sleep { until } else { Duration::ZERO };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn heed(&mut self, event: &mio::event::Event) {
        let Token(slot) = event.token();
        if event.token() == WAKE {
            return;
        }
        let slot = slot as u32;
        if event.is_writable() {
            self.pump(slot, Instant::now());
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(slot);
        }
    }

    fn open(&mut self, opened: Opened) {
        let Opened { socket, unread, head, protocol, held, topic, joint } = opened;
        // What came before the opening is for those who are here already. Where that finds the
        // last of them gone, the list is gone with it; so it is looked up after.
        let others = self.lists.number(topic.clone(), protocol, joint.position);
        self.fan_out_list(others);
        let list = self.lists.number(topic, protocol, joint.position);
        self.taken = self.taken.max(joint.position);
        let slot = self.slots.insert(Connection::new(socket, protocol, held));
        let place = self.lists.add(list, slot);
        self.ledger.opened(protocol);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        (connection.list, connection.place) = (list, place);
        let registered = self.poll.registry().register(
            &mut connection.socket,
            Token(slot as usize),
            Interest::READABLE | Interest::WRITABLE,
        );
        if registered.is_err() {
            return self.drop_connection(slot, CloseReason::Failed);
        }
        self.begin(slot, head, joint);
        if !unread.is_empty() {
            self.hear(slot, &mut unread.to_vec());
        }
        if self.stop.is_some() {
            self.end(slot, CloseReason::ShuttingDown);
        }
    }

    /// Sends what a stream starts with.
    fn begin(&mut self, slot: u32, head: Vec<u8>, joint: Joint) {
        let patience = self.patience();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let protocol = connection.protocol;
        let start = protocol.start(head, joint.opening);
        let sent = connection.send(&start.bytes);
        let is_ordinary = start.replay.is_empty() && start.end.is_none();
        let taken = match sent {
            Sent::All if is_ordinary => {
                return self.ledger.written(protocol, start.seeds.into());
            }
            Sent::All => start.bytes.len(),
            Sent::Some(taken) => taken,
            Sent::Apart | Sent::Broken => 0,
        };
        let mut backlog = Box::new(Backlog::new(joint.position));
        backlog.keep_rest(start.bytes.into(), start.seeds, taken);
        for frame in &start.replay {
            backlog.keep(protocol.round(frame), 1);
        }
        if !start.replay.is_empty() {
            backlog.replay(Instant::now(), patience);
        }
        connection.backlog = Some(backlog);
        match start.end {
            Some(reason) => self.leave(slot, reason, protocol.goodbye(reason)),
            None => self.pump(slot, Instant::now()),
        }
    }

    /// Heartbeats, slow connections, and goodbyes, each when it is due.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if let Some((first, step)) = self.beats.due(now) {
            self.beat(first, step);
            self.look_after(now);
        }
        let told = self.stop.as_mut().map_or(0..0, |stop| stop.due(now));
        for slot in told.start..told.end.min(self.slots.end()) {
            self.end(slot, CloseReason::ShuttingDown);
        }
    }

    fn beat(&mut self, first: u32, step: usize) {
        let now = UnixMillis::now();
        let beats = [Protocol::WebSocket, Protocol::Chunked, Protocol::Plain]
            .map(|protocol| protocol.heartbeat(now));
        for slot in (first..self.slots.end()).step_by(step) {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            // What waits for the socket is a sign of life as well, and judged by its progress.
            if connection.backlog.as_ref().is_some_and(|backlog| backlog.has_bytes())
                || connection.is_leaving()
            {
                continue;
            }
            if connection.ping() {
                let beat = beats[connection.protocol as usize].clone();
                self.send_apart(slot, beat);
            } else {
                self.end(slot, CloseReason::NoPong);
            }
        }
    }

    /// Lets go who takes too little or does not leave, and forgets backlogs that are over.
    fn look_after(&mut self, now: Instant) {
        for slot in std::mem::take(&mut self.apart) {
            // Lists it again where there is still something apart.
            self.pump(slot, now);
            self.judge(slot, now);
        }
    }

    fn judge(&mut self, slot: u32, now: Instant) {
        // A tick less, so that nobody stays longer than it is said.
        let patience = self.patience().saturating_sub(self.beats.tick());
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Some(backlog) = &connection.backlog else { return };
        if backlog.is_overdue(now) {
            connection.reset();
            self.slots.remove(slot);
        } else if !backlog.is_leaving() && backlog.is_stalled(now, patience) {
            connection.reset();
            self.drop_connection(slot, CloseReason::TooSlow);
        } else if backlog.is_replay_overdue(now) {
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
        self.inbox.close();
    }
}
