//! Groups of connections that get the same bytes: one topic, one protocol.

use std::collections::{HashMap, hash_map::Entry};

use slab::Slab;

use super::protocol::Protocol;
use crate::stream::{
    hub::{Placed, Position},
    topic::{Topic, TopicIndex},
};

/// The connections of one topic and one protocol, and the rounds to send them next.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) topic: Topic,
    pub(super) protocol: Protocol,
    /// Slots, in no order.
    pub(super) members: Vec<u32>,
    /// Rounds of the topic that were not sent yet.
    pub(super) pending: Vec<Placed>,
    /// All rounds of the topic up to this position were sent to every member, or queued for it.
    pub(super) sent_up_to: Position,
}

/// All groups of a shard. A group keeps its number while it has members.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    numbers: HashMap<(Topic, Protocol), u32>,
    index: TopicIndex,
    /// Numbers of groups with pending rounds; some of them may be removed by now.
    with_pending: Vec<u32>,
}

impl Groups {
    pub(super) fn find(&self, topic: &Topic, protocol: Protocol) -> Option<u32> {
        self.numbers.get(&(topic.clone(), protocol)).copied()
    }

    /// The number of the group of this topic and protocol. A new group starts after `position`.
    pub(super) fn find_or_add(
        &mut self,
        topic: Topic,
        protocol: Protocol,
        position: Position,
    ) -> u32 {
        let vacant = match self.numbers.entry((topic, protocol)) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let topic = vacant.key().0.clone();
        let (members, pending) = (Vec::new(), Vec::new());
        let group = Group { topic, protocol, members, pending, sent_up_to: position };
        let number = self.groups.insert(group) as u32;
        self.index.add(&vacant.key().0, number);
        *vacant.insert(number)
    }

    /// Notes that a group's members have every round up to here, or lag.
    pub(super) fn set_sent_up_to(&mut self, number: u32, position: Position) {
        if let Some(group) = self.get_mut(number) {
            group.sent_up_to = position;
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        self.groups.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        self.groups.get_mut(number as usize)
    }

    /// Adds a member; returns its index in the group.
    pub(super) fn add_member(&mut self, number: u32, slot: u32) -> u32 {
        let Some(group) = self.get_mut(number) else { return 0 };
        group.members.push(slot);
        (group.members.len() - 1) as u32
    }

    /// Removes a member; returns the slot that moved to its index. Removes an empty group.
    pub(super) fn remove_member(&mut self, number: u32, member_index: u32) -> Option<u32> {
        let group = self.groups.get_mut(number as usize)?;
        let member_index = member_index as usize;
        if member_index < group.members.len() {
            group.members.swap_remove(member_index);
        }
        if group.members.is_empty() {
            let Group { topic, protocol, .. } = self.groups.remove(number as usize);
            self.index.remove(&topic, number);
            self.numbers.remove(&(topic, protocol));
            return None;
        }
        group.members.get(member_index).copied()
    }

    /// Adds a round to every group whose topic includes it.
    pub(super) fn queue_round(&mut self, placed: &Placed) {
        let (game, kind) = &placed.game;
        for number in self.index.of(game, kind) {
            let Some(group) = self.groups.get_mut(number as usize) else { continue };
            if group.pending.is_empty() {
                self.with_pending.push(number);
            }
            group.pending.push(placed.clone());
        }
    }

    /// The groups that got rounds since the last call.
    pub(super) fn take_pending(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.with_pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::GameId;

    fn groups() -> (Groups, u32) {
        let mut groups = Groups::default();
        let number =
            groups.find_or_add(Topic::game(GameId::number(1)), Protocol::WebSocket, Position(3));
        (groups, number)
    }

    #[test]
    fn a_topic_has_one_group_per_protocol() {
        let (mut groups, first) = groups();
        let again =
            groups.find_or_add(Topic::game(GameId::number(1)), Protocol::WebSocket, Position(9));
        let chunked =
            groups.find_or_add(Topic::game(GameId::number(1)), Protocol::Chunked, Position(9));
        assert_eq!((first, again, chunked), (0, 0, 1));
        assert_eq!(groups.get(0).expect("a group").sent_up_to, Position(3));
    }

    #[test]
    fn the_last_member_moves_to_the_index_of_a_removed_member() {
        let (mut groups, number) = groups();
        let indexes: Vec<_> = [10, 11, 12].map(|slot| groups.add_member(number, slot)).into();
        assert_eq!(indexes, [0, 1, 2]);
        assert_eq!(groups.remove_member(number, 0), Some(12));
        assert_eq!(groups.get(number).expect("a group").members, [12, 11]);
        assert_eq!(groups.remove_member(number, 1), None);
    }

    #[test]
    fn a_group_without_members_is_removed_and_its_number_reused() {
        let (mut groups, number) = groups();
        groups.add_member(number, 7);
        groups.remove_member(number, 0);
        let other = groups.find_or_add(Topic::Everything, Protocol::Plain, Position(5));
        assert_eq!((other, groups.groups.len()), (number, 1));
        assert_eq!(groups.get(other).expect("a group").topic, Topic::Everything);
    }
}
