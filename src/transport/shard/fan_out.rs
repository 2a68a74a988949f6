//! The way of a round: from the queue to every subscriber of its topic.

use std::time::Instant;

use super::{
    Shard,
    backlog::Backlog,
    connection::Sent,
    wire::{Joined, Protocol},
};
use crate::{
    stream::hub::{Placed, Position},
    transport::close::CloseReason,
};

impl Shard {
    /// Sorts rounds into the lists of those who get them.
    pub(super) fn note(&mut self, batch: &[Placed]) {
        for placed in batch {
            self.lists.note(placed);
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
        for list in self.lists.take_due() {
            self.fan_out_list(list);
        }
        self.offered = self.taken;
        if self.slots.count() > 0 {
            self.recorded.iter().for_each(|at| self.ledger.reached_all(at.elapsed()));
        }
        self.recorded.clear();
    }

    pub(super) fn fan_out_list(&mut self, number: u32) {
        let Some(list) = self.lists.get_mut(number).filter(|list| !list.pending.is_empty()) else {
            return;
        };
        let pending = std::mem::take(&mut list.pending);
        let (protocol, mut given) = (list.protocol, list.given);
        for joined in protocol.join(&pending) {
            let others = self.send_to_all(number, protocol, &joined);
            for (slot, sent) in others {
                self.send_to_one(slot, sent, given, protocol, &joined);
            }
            given = joined.part.last;
            if let Some(list) = self.lists.get_mut(number) {
                list.given = given;
            }
        }
    }

    /// The inner loop: one call for each member. Returns those it was not enough for.
    fn send_to_all(
        &mut self,
        number: u32,
        protocol: Protocol,
        joined: &Joined<'_>,
    ) -> Vec<(u32, Sent)> {
        let mut others = Vec::new();
        let mut reached = 0_u64;
        let Some(list) = self.lists.get(number) else { return others };
        let bytes = &joined.part.bytes[..];
        for &slot in &list.members {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            match connection.send(bytes) {
                Sent::All => reached += 1,
                sent => others.push((slot, sent)),
            }
        }
        self.ledger.written(protocol, reached * u64::from(joined.part.rounds));
        others
    }

    fn send_to_one(
        &mut self,
        slot: u32,
        sent: Sent,
        given: Position,
        protocol: Protocol,
        joined: &Joined<'_>,
    ) {
        let now = Instant::now();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match (sent, &mut connection.backlog) {
            (Sent::Broken, _) => return self.drop_connection(slot, CloseReason::Client),
            (Sent::Some(taken), None) => {
                let mut backlog = Box::new(Backlog::new(given));
                backlog.begin(joined.part.clone(), taken);
                connection.backlog = Some(backlog);
            }
            (_, Some(backlog)) => {
                backlog.offer(joined, protocol, now);
                if backlog.is_patient() {
                    return;
                }
            }
            (_, None) => {}
        }
        self.pump(slot, now);
    }
}
