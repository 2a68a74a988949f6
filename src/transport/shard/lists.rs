//! Who gets the same bytes: the connections of one topic and one protocol.

use std::collections::{HashMap, hash_map::Entry};

use super::wire::Protocol;
use crate::stream::{
    hub::{Placed, Position},
    topic::{Topic, TopicIndex},
};

/// The connections of one topic and one protocol, and the rounds they are to be given next.
#[derive(Debug)]
pub(super) struct List {
    pub(super) topic: Topic,
    pub(super) protocol: Protocol,
    /// Slots, in no order.
    pub(super) members: Vec<u32>,
    /// Rounds of the topic that nobody of the list was given yet.
    pub(super) pending: Vec<Placed>,
    /// All rounds of the topic up to this position were given to everyone.
    pub(super) given: Position,
}

/// All lists of a shard. The number of one stays while it has members.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Vec<List>,
    numbers: HashMap<(Topic, Protocol), u32>,
    index: TopicIndex,
    free: Vec<u32>,
    /// Lists with rounds that nobody of them was given yet.
    due: Vec<u32>,
}

impl Lists {
    /// The list of this topic and protocol. One made now begins after `position`.
    pub(super) fn number(&mut self, topic: Topic, protocol: Protocol, position: Position) -> u32 {
        let slot = match self.numbers.entry((topic, protocol)) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(slot) => slot,
        };
        let (members, pending) = (Vec::new(), Vec::new());
        let topic = slot.key().0.clone();
        let list = List { topic, protocol, members, pending, given: position };
        let number = match self.free.pop() {
            Some(number) => {
                self.lists[number as usize] = list;
                number
            }
            None => {
                self.lists.push(list);
                (self.lists.len() - 1) as u32
            }
        };
        self.index.add(&slot.key().0, number);
        *slot.insert(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&List> {
        self.lists.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut List> {
        self.lists.get_mut(number as usize)
    }

    /// Adds a member; returns its place in the list.
    pub(super) fn add(&mut self, number: u32, slot: u32) -> u32 {
        let Some(list) = self.get_mut(number) else { return 0 };
        list.members.push(slot);
        (list.members.len() - 1) as u32
    }

    /// Takes a member out; returns the slot that has its place now. A list without members is
    /// forgotten.
    pub(super) fn remove(&mut self, number: u32, place: u32) -> Option<u32> {
        let list = self.lists.get_mut(number as usize)?;
        let place = place as usize;
        if place < list.members.len() {
            list.members.swap_remove(place);
        }
        if list.members.is_empty() {
            list.pending = Vec::new();
            list.members = Vec::new();
            self.index.remove(&list.topic, number);
            self.numbers.remove(&(list.topic.clone(), list.protocol));
            self.free.push(number);
            return None;
        }
        list.members.get(place).copied()
    }

    /// Notes a round for everyone whose topic it belongs to.
    pub(super) fn note(&mut self, placed: &Placed) {
        let (game, kind) = &placed.game;
        for number in self.index.of(*game, kind) {
            let Some(list) = self.lists.get_mut(number as usize) else { continue };
            if list.pending.is_empty() {
                self.due.push(number);
            }
            list.pending.push(placed.clone());
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

    fn lists() -> (Lists, u32) {
        let mut lists = Lists::default();
        let number = lists.number(Topic::game(GameId(1)), Protocol::WebSocket, Position(3));
        (lists, number)
    }

    #[test]
    fn one_topic_has_a_list_for_each_protocol() {
        let (mut lists, first) = lists();
        let again = lists.number(Topic::game(GameId(1)), Protocol::WebSocket, Position(9));
        let chunked = lists.number(Topic::game(GameId(1)), Protocol::Chunked, Position(9));
        assert_eq!((first, again, chunked), (0, 0, 1));
        assert_eq!(lists.get(0).expect("a list").given, Position(3));
    }

    #[test]
    fn the_last_member_takes_the_place_of_one_that_leaves() {
        let (mut lists, number) = lists();
        let places: Vec<_> = [10, 11, 12].map(|slot| lists.add(number, slot)).into();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(lists.remove(number, 0), Some(12));
        assert_eq!(lists.get(number).expect("a list").members, [12, 11]);
        assert_eq!(lists.remove(number, 1), None);
    }

    #[test]
    fn a_list_without_members_is_forgotten_and_its_number_used_again() {
        let (mut lists, number) = lists();
        lists.add(number, 7);
        lists.remove(number, 0);
        let other = lists.number(Topic::Everything, Protocol::Plain, Position(5));
        assert_eq!((other, lists.lists.len()), (number, 1));
        assert_eq!(lists.get(other).expect("a list").topic, Topic::Everything);
    }
}
