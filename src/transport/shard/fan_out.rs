//! The way of a round: from the queue to every subscriber of its topic.

use std::time::Instant;

use super::{
    Shard,
    connection::SendOutcome,
    protocol::{JoinedRounds, Protocol},
    send_queue::SendQueue,
};
use crate::{
    stream::hub::{Placed, Position},
    transport::close::CloseReason,
};

impl Shard {
    /// Sorts rounds into the lists of those who get them.
    pub(super) fn queue_rounds(&mut self, batch: &[Placed]) {
        for placed in batch {
            self.groups.queue_rounds(placed);
            self.taken = placed.position;
        }
        // Published together, so the first tells of all.
        self.recorded.extend(batch.first().and_then(|placed| placed.recorded));
    }

    /// Sends what was sorted.
    pub(super) fn fan_out(&mut self) {
        if self.taken == self.offered {
            return;
        }
        for group in self.groups.take_due() {
            self.fan_out_list(group);
        }
        self.offered = self.taken;
        if self.slots.count() > 0 {
            self.recorded.iter().for_each(|at| self.metrics.reached_all(at.elapsed()));
        }
        self.recorded.clear();
    }

    pub(super) fn fan_out_list(&mut self, number: u32) {
        let Some(group) = self.groups.get_mut(number).filter(|group| !group.pending.is_empty())
        else {
            return;
        };
        let pending = std::mem::take(&mut group.pending);
        let (protocol, mut sent_up_to) = (group.protocol, group.sent_up_to);
        for joined in protocol.join(&pending) {
            let others = self.send_to_all(number, protocol, &joined);
            for (slot, sent) in others {
                self.send_to_one(slot, sent, sent_up_to, protocol, &joined);
            }
            sent_up_to = joined.segment.last;
            if let Some(group) = self.groups.get_mut(number) {
                group.sent_up_to = sent_up_to;
            }
        }
    }

    /// The inner loop: one call for each member. Returns those it was not enough for.
    fn send_to_all(
        &mut self,
        number: u32,
        protocol: Protocol,
        joined: &JoinedRounds<'_>,
    ) -> Vec<(u32, SendOutcome)> {
        let mut others = Vec::new();
        let mut reached = 0_u64;
        let Some(group) = self.groups.get(number) else { return others };
        let bytes = &joined.segment.bytes[..];
        for &slot in &group.members {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            match connection.send(bytes) {
                SendOutcome::All => reached += 1,
                sent => others.push((slot, sent)),
            }
        }
        self.metrics.written(protocol, reached * u64::from(joined.segment.rounds));
        others
    }

    fn send_to_one(
        &mut self,
        slot: u32,
        sent: SendOutcome,
        sent_up_to: Position,
        protocol: Protocol,
        joined: &JoinedRounds<'_>,
    ) {
        let now = Instant::now();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match (sent, &mut connection.send_queue) {
            (SendOutcome::Broken, _) => return self.drop_connection(slot, CloseReason::Client),
            (SendOutcome::Partial(taken), None) => {
                let mut send_queue = Box::new(SendQueue::new(sent_up_to));
                send_queue.push_started(joined.segment.clone(), taken);
                connection.send_queue = Some(send_queue);
            }
            (_, Some(send_queue)) => {
                send_queue.push_rounds(joined, protocol, now);
                if send_queue.waits_for_socket() {
                    return;
                }
            }
            (_, None) => {}
        }
        self.flush(slot, now);
    }
}
