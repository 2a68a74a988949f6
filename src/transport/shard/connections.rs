//! The connections of a shard: opening, writing, reading, heartbeats and the end of each.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Registry, Token};
use slab::Slab;

use super::{
    connection::{Connection, SendOutcome},
    granted_stream::Permits,
    groups::Groups,
    leases::Leases,
    protocol::{Protocol, Segment},
    replay_task::ReplayNumber,
    send_queue::{Flushed, SendQueue},
    shard_metrics::ShardMetrics,
    socket::Socket,
};
use crate::{
    access::CurrentKeys,
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::{
        hub::{Hub, Position, REFILL_ROUNDS},
        round::UnixMillis,
        topic::Topic,
    },
    transport::{close::CloseReason, read_pace::rate_min},
};

/// How long a close message may take if the peer reads: a round trip. A stopping process must not
/// wait a whole heartbeat for the other peers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The connections of a shard, by slot. A slot fits 32 bits: a process has fewer descriptors.
#[derive(Debug)]
pub(super) struct Connections {
    heartbeat: Duration,
    hub: Hub,
    pub(super) budget: MemoryBudget,
    pub(super) metrics: ShardMetrics,
    pub(super) slots: Slab<Connection>,
    pub(super) groups: Groups,
    pub(super) leases: Leases,
    /// Slots with a send queue, checked on each tick.
    with_queue: BTreeSet<u32>,
    /// The slots of the connections that replay rounds of the database.
    pub(super) replays: HashMap<ReplayNumber, u32>,
    /// How many connections are over the limit of their send queue for now.
    behind: usize,
    /// Every round up to here was sent to all its subscribers, or is in their send queues.
    pub(super) offered: Position,
}

impl Connections {
    pub(super) fn new(
        heartbeat: Duration,
        hub: Hub,
        budget: MemoryBudget,
        keys: CurrentKeys,
        metrics: &Metrics,
    ) -> Self {
        Self {
            heartbeat,
            hub,
            budget,
            metrics: ShardMetrics::new(metrics),
            slots: Slab::new(),
            groups: Groups::default(),
            leases: Leases::new(keys),
            with_queue: BTreeSet::new(),
            replays: HashMap::new(),
            behind: 0,
            offered: Position(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many connections are over the limit of their send queue for now.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// All connections have a slot below this.
    pub(super) fn slots_in_use(&self) -> usize {
        self.slots.iter().next_back().map_or(0, |(slot, _)| slot + 1)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)
    }

    /// Adds a connection that subscribes to the topic from this position. Returns its slot.
    pub(super) fn insert(
        &mut self,
        socket: Socket,
        protocol: Protocol,
        permits: Permits,
        topic: Topic,
        position: Position,
    ) -> u32 {
        let group = self.groups.find_or_add(topic, protocol, position);
        let entry = self.slots.vacant_entry();
        let slot = entry.key() as u32;
        let member_index = self.groups.add_member(group, slot);
        entry.insert(Connection::new(socket, protocol, permits, group, member_index));
        self.metrics.opened(protocol);
        slot
    }

    pub(super) fn register(&mut self, slot: u32, registry: &Registry) -> io::Result<()> {
        let Some(connection) = self.get_mut(slot) else { return Ok(()) };
        connection.socket.register(registry, Token(slot as usize))
    }

    /// Writes the send queue of a connection, and refills it from the ring buffers if rounds were
    /// dropped. Ends when the socket is full, or when no round is left to send.
    pub(super) fn flush(&mut self, slot: u32, now: Instant) {
        loop {
            let Some(connection) = self.slots.get_mut(slot as usize) else { return };
            let (flushed, rounds) = connection.flush(now);
            self.metrics.written(connection.protocol, rounds.into());
            match flushed {
                Flushed::Broken => return self.drop_connection(slot, CloseReason::Client),
                Flushed::Blocked => {
                    self.count_behind(slot);
                    return self.watch_queue(slot);
                }
                Flushed::All if !self.refill(slot, now) => return self.finish_flush(slot),
                Flushed::All => {}
            }
        }
    }

    /// Whether a member of this group takes live rounds. The others lag: each is refilled from the
    /// ring buffers once its socket has room.
    pub(super) fn takes_rounds(&self, group: u32) -> bool {
        let members = self.groups.get(group).map_or(&[][..], |group| &group.members);
        let mut members = members.iter().filter_map(|slot| self.slots.get(*slot as usize));
        members.any(|connection| connection.takes_rounds())
    }

    /// Updates the number of connections that are behind after a change of this one's queue.
    pub(super) fn count_behind(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        let is_behind = connection.send_queue.as_ref().is_some_and(|queue| queue.is_behind());
        let was_behind = std::mem::replace(&mut connection.is_behind, is_behind);
        self.behind = self.behind + usize::from(is_behind) - usize::from(was_behind);
    }

    /// Reads dropped rounds from the ring buffers. Returns false if the connection dropped none.
    fn refill(&mut self, slot: u32, now: Instant) -> bool {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return false };
        let Some(send_queue) = &mut connection.send_queue else { return false };
        send_queue.request_page(now);
        let Some(later) = send_queue.missed() else { return false };
        let Some(group) = self.groups.get(connection.group) else { return false };
        match self.hub.missed(&group.topic, &later, REFILL_ROUNDS) {
            Some(missed) => send_queue.refill(&missed, connection.protocol),
            None => self.end(slot, CloseReason::TooSlow),
        }
        true
    }

    /// Removes an empty send queue, or ends the write half of a connection that is closing.
    fn finish_flush(&mut self, slot: u32) {
        let offered = self.offered;
        let Some(connection) = self.get_mut(slot) else { return };
        if connection.is_closing() {
            connection.finish();
        } else {
            connection.send_queue.take_if(|send_queue| send_queue.is_caught_up(offered));
        }
        self.count_behind(slot);
        self.watch_queue(slot);
    }

    /// Checks a connection with a send queue on each tick.
    fn watch_queue(&mut self, slot: u32) {
        if self.get_mut(slot).is_some_and(|connection| connection.send_queue.is_some()) {
            self.with_queue.insert(slot);
        }
    }

    /// Sends bytes that belong to this connection alone: a heartbeat or pongs.
    fn send_alone(&mut self, slot: u32, bytes: Bytes) {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        match (connection.send(&bytes), &mut connection.send_queue) {
            (SendOutcome::All, _) => return,
            (SendOutcome::Broken, _) => return self.drop_connection(slot, CloseReason::Client),
            (SendOutcome::Partial(taken), None) => {
                let group = self.groups.get(connection.group);
                let last = group.map_or(self.offered, |group| group.sent_up_to);
                let mut send_queue = Box::new(SendQueue::new(last));
                send_queue.push_started(Segment { bytes, last, rounds: 0 }, taken);
                connection.send_queue = Some(send_queue);
            }
            (_, Some(send_queue)) => send_queue.push_kept(bytes, 0),
            (_, None) => {}
        }
        self.flush(slot, Instant::now());
    }

    /// Handles bytes from the peer: answers pings, and closes if the peer closes or breaks the
    /// protocol.
    pub(super) fn handle_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(connection) = self.get_mut(slot) else { return };
        let received = connection.handle_bytes(bytes);
        if !received.pongs.is_empty() {
            match &mut connection.send_queue {
                Some(send_queue) if send_queue.has_bytes() => {
                    send_queue.set_pong(received.pongs[received.last_pong..].to_vec().into());
                }
                _ => self.send_alone(slot, received.pongs.into()),
            }
        }
        if let Some((reason, close_message)) = received.end {
            self.close(slot, reason, close_message);
        }
    }

    /// Sends a heartbeat to every slot `first + n * step`.
    pub(super) fn send_heartbeats(&mut self, first: u32, step: usize) {
        let now = UnixMillis::now();
        let web_socket = Protocol::WebSocket.heartbeat(now);
        let (chunked, plain) = (Protocol::Chunked.heartbeat(now), Protocol::Plain.heartbeat(now));
        for slot in (first as usize..self.slots.capacity()).step_by(step) {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            let slot = slot as u32;
            // Queued bytes keep the connection alive as well; `close_slow` checks their progress.
            if connection.send_queue.as_ref().is_some_and(|queue| queue.has_bytes())
                || connection.is_closing()
            {
                continue;
            }
            if connection.count_ping() {
                let heartbeat = match connection.protocol {
                    Protocol::WebSocket => &web_socket,
                    Protocol::Chunked => &chunked,
                    Protocol::Plain => &plain,
                };
                self.send_alone(slot, heartbeat.clone());
            } else {
                self.end(slot, CloseReason::NoPong);
            }
        }
    }

    /// Flushes every send queue, and closes the connections that take too little or do not leave.
    pub(super) fn close_slow(&mut self, now: Instant, tick: Duration) {
        let is_exhausted = self.budget.is_exhausted(MemoryUse::queues);
        for slot in std::mem::take(&mut self.with_queue) {
            if is_exhausted && let Some(connection) = self.get_mut(slot) {
                connection.drop_live_rounds();
            }
            // Adds the slot again if its queue remains.
            self.flush(slot, now);
            self.close_if_slow(slot, now, tick);
        }
    }

    fn close_if_slow(&mut self, slot: u32, now: Instant, tick: Duration) {
        // One tick less: the next check would be up to a tick after the deadline.
        let patience = self.patience().saturating_sub(tick);
        let rate = rate_min(self.budget.is_half_used(MemoryUse::replays));
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        let Some(send_queue) = &mut connection.send_queue else { return };
        if send_queue.is_close_overdue(now) {
            connection.reset();
            self.remove(slot);
        } else if !send_queue.is_closing() && send_queue.is_stalled(now, patience) {
            connection.reset();
            self.drop_connection(slot, CloseReason::TooSlow);
        } else if send_queue.is_replay_too_slow(now, patience, rate) {
            // The peer reads, if slowly: it can receive a close message.
            self.end(slot, CloseReason::TooSlow);
        }
    }

    /// Closes all connections in these slots.
    pub(super) fn end_slots(&mut self, slots: Range<u32>, reason: CloseReason) {
        let end = slots.end.min(self.slots.capacity() as u32);
        for slot in slots.start..end {
            self.end(slot, reason);
        }
    }

    /// Closes a connection with the close message of this reason.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason) {
        if let Some(connection) = self.get_mut(slot) {
            let close_message = connection.protocol.close_message(reason);
            self.close(slot, reason, close_message);
        }
    }

    /// Sends a close message and waits until the peer closes its half. If the server closed the
    /// socket while the peer still sends, TCP would reset it, and the close message could be lost.
    fn close(&mut self, slot: u32, reason: CloseReason, close_message: Bytes) {
        let heartbeat = self.heartbeat;
        let connection = self.slots.get_mut(slot as usize).filter(|known| !known.is_closing());
        let Some(connection) = connection else { return };
        let (group, protocol) = (connection.group, connection.protocol);
        let member_index = connection.member_index;
        // At a shutdown or a gap, the queue goes out first; otherwise only a segment that has
        // started. A slow peer has one heartbeat for that: it is closed after two in all.
        let at_once = !matches!(
            reason,
            CloseReason::ShuttingDown | CloseReason::PlaceLost | CloseReason::Gap
        );
        let is_slow = matches!(reason, CloseReason::TooSlow | CloseReason::NoPong);
        let patience = if is_slow { heartbeat } else { heartbeat.min(CLOSE_TIMEOUT) };
        let now = Instant::now();
        let send_queue =
            connection.send_queue.get_or_insert_with(|| Box::new(SendQueue::new(self.offered)));
        if let Some(replay) = send_queue.replay() {
            self.replays.remove(&replay);
        }
        send_queue.close(close_message, at_once, now + patience);
        self.metrics.closed(protocol, reason);
        self.leave_group(group, member_index);
        self.flush(slot, now);
    }

    /// Drops a connection without a close message: the peer is gone or takes no bytes.
    pub(super) fn drop_connection(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.remove(slot) else { return };
        if !connection.is_closing() {
            self.metrics.closed(connection.protocol, reason);
            self.leave_group(connection.group, connection.member_index);
        }
    }

    fn remove(&mut self, slot: u32) -> Option<Connection> {
        let connection = self.slots.try_remove(slot as usize)?;
        self.behind -= usize::from(connection.is_behind);
        if let Some(replay) = connection.send_queue.as_ref().and_then(|queue| queue.replay()) {
            self.replays.remove(&replay);
        }
        Some(connection)
    }

    fn leave_group(&mut self, group: u32, member_index: u32) {
        if let Some(moved) = self.groups.remove_member(group, member_index)
            && let Some(connection) = self.get_mut(moved)
        {
            connection.member_index = member_index;
        }
    }

    /// How long a peer may take too little.
    fn patience(&self) -> Duration {
        self.heartbeat * 2
    }
}
