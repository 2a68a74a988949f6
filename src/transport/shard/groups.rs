//! Who gets the same bytes: the connections of one topic and one protocol.

use std::collections::{HashMap, hash_map::Entry};

use super::protocol::Protocol;
use crate::stream::{
    hub::{Placed, Position},
    topic::{Topic, TopicIndex},
};

/// The connections of one topic and one protocol, and the rounds they are to be given next.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) topic: Topic,
    pub(super) protocol: Protocol,
    /// Slots, in no order.
    pub(super) members: Vec<u32>,
    /// Rounds of the topic that nobody of the list was given yet.
    pub(super) pending: Vec<Placed>,
    /// All rounds of the topic up to this position were given to everyone.
    pub(super) sent_up_to: Position,
}

/// All lists of a shard. The number of one stays while it has members.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    numbers: HashMap<(Topic, Protocol), u32>,
    index: TopicIndex,
    free: Vec<u32>,
    /// Lists with rounds that nobody of them was given yet.
    due: Vec<u32>,
}

impl Groups {
    /// The list of this topic and protocol. One made now begins after `position`.
    pub(super) fn number(&mut self, topic: Topic, protocol: Protocol, position: Position) -> u32 {
        let slot = match self.numbers.entry((topic, protocol)) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(slot) => slot,
        };
        let (members, pending) = (Vec::new(), Vec::new());
        let topic = slot.key().0.clone();
        let group = Group { topic, protocol, members, pending, sent_up_to: position };
        let number = match self.free.pop() {
            Some(number) => {
                self.groups[number as usize] = group;
                number
            }
            None => {
                self.groups.push(group);
                (self.groups.len() - 1) as u32
            }
        };
        self.index.add(&slot.key().0, number);
        *slot.insert(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        self.groups.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        self.groups.get_mut(number as usize)
    }

    /// Adds a member; returns its place in the list.
    pub(super) fn add(&mut self, number: u32, slot: u32) -> u32 {
        let Some(group) = self.get_mut(number) else { return 0 };
        group.members.push(slot);
        (group.members.len() - 1) as u32
    }

    /// Takes a member out; returns the slot that has its place now. A list without members is
    /// forgotten.
    pub(super) fn remove(&mut self, number: u32, member_index: u32) -> Option<u32> {
        let group = self.groups.get_mut(number as usize)?;
        let member_index = member_index as usize;
        if member_index < group.members.len() {
            group.members.swap_remove(member_index);
        }
        if group.members.is_empty() {
            group.pending = Vec::new();
            group.members = Vec::new();
            self.index.remove(&group.topic, number);
            self.numbers.remove(&(group.topic.clone(), group.protocol));
            self.free.push(number);
            return None;
        }
        group.members.get(member_index).copied()
    }

    /// Notes a round for everyone whose topic it belongs to.
    pub(super) fn queue_rounds(&mut self, placed: &Placed) {
        let (game, kind) = &placed.game;
        for number in self.index.of(*game, kind) {
            let Some(group) = self.groups.get_mut(number as usize) else { continue };
            if group.pending.is_empty() {
                self.due.push(number);
            }
            group.pending.push(placed.clone());
        }
    }

    /// The lists that rounds were noted for since this was asked.
    pub(super) fn take_due(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::GameId;

    fn groups() -> (Groups, u32) {
        let mut groups = Groups::default();
        let number = groups.number(Topic::game(GameId(1)), Protocol::WebSocket, Position(3));
        (groups, number)
    }

    #[test]
    fn one_topic_has_a_list_for_each_protocol() {
        let (mut groups, first) = groups();
        let again = groups.number(Topic::game(GameId(1)), Protocol::WebSocket, Position(9));
        let chunked = groups.number(Topic::game(GameId(1)), Protocol::Chunked, Position(9));
        assert_eq!((first, again, chunked), (0, 0, 1));
        assert_eq!(groups.get(0).expect("a group").sent_up_to, Position(3));
    }

    #[test]
    fn the_last_member_takes_the_place_of_one_that_leaves() {
        let (mut groups, number) = groups();
        let places: Vec<_> = [10, 11, 12].map(|slot| groups.add(number, slot)).into();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(groups.remove(number, 0), Some(12));
        assert_eq!(groups.get(number).expect("a group").members, [12, 11]);
        assert_eq!(groups.remove(number, 1), None);
    }

    #[test]
    fn a_list_without_members_is_forgotten_and_its_number_used_again() {
        let (mut groups, number) = groups();
        groups.add(number, 7);
        groups.remove(number, 0);
        let other = groups.number(Topic::Everything, Protocol::Plain, Position(5));
        assert_eq!((other, groups.groups.len()), (number, 1));
        assert_eq!(groups.get(other).expect("a group").topic, Topic::Everything);
    }
}
