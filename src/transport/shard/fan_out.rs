//! The way of a round: from the command queue to every subscriber of its topic.

use std::time::Instant;

use super::{
    connection::SendOutcome,
    connections::Connections,
    protocol::{JoinedRounds, Protocol},
    send_queue::SendQueue,
};
use crate::{
    ops::telemetry::metrics::MemoryUse,
    stream::{
        hub::{Placed, Position},
        topic::Topic,
    },
    transport::close::CloseReason,
};

/// The rounds between the command queue and the sockets.
#[derive(Debug)]
pub(super) struct FanOut {
    /// Every round up to here was taken from the command queue.
    taken: Position,
    /// When the rounds that wait were recorded, one time per batch.
    recorded: Vec<Instant>,
}

impl Default for FanOut {
    fn default() -> Self {
        Self { taken: Position(0), recorded: Vec::new() }
    }
}

impl FanOut {
    /// Adds rounds to the groups that subscribe to them.
    pub(super) fn queue_rounds(&mut self, connections: &mut Connections, batch: &[Placed]) {
        for placed in batch {
            connections.groups.queue_round(placed);
            self.taken = placed.position;
        }
        // A batch is published at once: its first round stands for all.
        self.recorded.extend(batch.first().and_then(|placed| placed.recorded));
    }

    /// Sends all rounds that wait.
    pub(super) fn send_all(&mut self, connections: &mut Connections) {
        if self.taken == connections.offered {
            return;
        }
        for group in connections.groups.take_pending() {
            send_pending(connections, group);
        }
        connections.offered = self.taken;
        if !connections.is_empty() {
            let metrics = &connections.metrics;
            self.recorded.iter().for_each(|at| metrics.reached_all(at.elapsed()));
        }
        self.recorded.clear();
    }

    /// Sends the rounds up to this position to those who subscribe in the same way.
    pub(super) fn send_until(
        &mut self,
        connections: &mut Connections,
        topic: &Topic,
        protocol: Protocol,
        position: Position,
    ) {
        if let Some(group) = connections.groups.find(topic, protocol) {
            send_pending(connections, group);
        }
        self.taken = self.taken.max(position);
    }
}

fn send_pending(connections: &mut Connections, number: u32) {
    let group = connections.groups.get_mut(number);
    let Some(group) = group.filter(|group| !group.pending.is_empty()) else { return };
    let pending = std::mem::take(&mut group.pending);
    let (protocol, mut sent_up_to) = (group.protocol, group.sent_up_to);
    let budget = connections.budget.clone();
    let mut joining = protocol.join(&pending, &budget);
    // Rounds are joined only for members that take them. For 200 unread replays on 200 topics, 1,500
    // rounds of 10 KB meant to copy 3 GB, and everybody else waited for 2 s.
    while connections.takes_rounds(number)
        && let Some(joined) = joining.next()
    {
        for (slot, outcome) in send_to_members(connections, number, &joined) {
            queue_or_drop(connections, slot, outcome, sent_up_to, &joined);
        }
        sent_up_to = joined.segment.last;
    }
    if let Some(last) = pending.last() {
        connections.groups.set_sent_up_to(number, last.position);
    }
}

/// The inner loop: one call per member. Returns the members whose socket did not take all bytes.
fn send_to_members(
    connections: &mut Connections,
    number: u32,
    joined: &JoinedRounds<'_>,
) -> Vec<(u32, SendOutcome)> {
    let mut others = Vec::new();
    let mut reached = 0_u64;
    let Connections { groups, slots, metrics, .. } = connections;
    let Some(group) = groups.get(number) else { return others };
    let bytes = &joined.segment.bytes[..];
    for &slot in &group.members {
        let Some(connection) = slots.get_mut(slot as usize) else { continue };
        match connection.send_rounds(bytes) {
            SendOutcome::All => reached += 1,
            outcome => others.push((slot, outcome)),
        }
    }
    metrics.written(group.protocol, reached * u64::from(joined.segment.rounds));
    others
}

/// Queues the rounds for a connection whose socket is full, and drops one that is broken.
fn queue_or_drop(
    connections: &mut Connections,
    slot: u32,
    outcome: SendOutcome,
    sent_up_to: Position,
    joined: &JoinedRounds<'_>,
) {
    let now = Instant::now();
    let is_exhausted = connections.budget.is_exhausted(MemoryUse::queues);
    let Some(connection) = connections.get_mut(slot) else { return };
    if outcome == SendOutcome::Queued {
        connection.begin_events(sent_up_to);
    }
    match (outcome, &mut connection.send_queue) {
        (SendOutcome::Broken, _) => {
            return connections.drop_connection(slot, CloseReason::Client);
        }
        (SendOutcome::Partial(taken), None) => {
            let mut send_queue = Box::new(SendQueue::new(sent_up_to));
            send_queue.push_started(joined.segment.clone(), taken);
            connection.send_queue = Some(send_queue);
        }
        (_, Some(send_queue)) => {
            send_queue.push_rounds(joined, connection.protocol, now, is_exhausted);
            if send_queue.waits_for_socket() {
                // It may have dropped its rounds: then it is not behind any more.
                return connections.count_behind(slot);
            }
        }
        (_, None) => {}
    }
    connections.flush(slot, now);
}
