//! An index from a round's game and type to its topics.
//!
//! Testing every topic for every round would be too slow: each new set of games in a client's
//! request makes a new topic.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::Topic;
use crate::stream::round::GameId;

/// Numbers of topics, by their games and types.
#[derive(Debug, Default)]
pub struct TopicIndex {
    everything: BTreeSet<u32>,
    games: HashMap<GameId, BTreeSet<u32>>,
    types: HashMap<Arc<str>, BTreeSet<u32>>,
}

impl TopicIndex {
    /// Adds a topic under this number.
    pub fn add(&mut self, topic: &Topic, number: u32) {
        match topic {
            Topic::Everything => drop(self.everything.insert(number)),
            Topic::AnyOf { games, types } => {
                for game in games {
                    self.games.entry(game.clone()).or_default().insert(number);
                }
                for kind in types {
                    self.types.entry(Arc::clone(kind)).or_default().insert(number);
                }
            }
        }
    }

    /// Removes the topic that was added under this number.
    pub fn remove(&mut self, topic: &Topic, number: u32) {
        match topic {
            Topic::Everything => drop(self.everything.remove(&number)),
            Topic::AnyOf { games, types } => {
                games.iter().for_each(|game| take_out(&mut self.games, game, number));
                types.iter().for_each(|kind| take_out(&mut self.types, kind, number));
            }
        }
    }

    /// The numbers of all topics that a round of this game belongs to, each once.
    pub fn of(&self, game: &GameId, kind: &str) -> impl Iterator<Item = u32> {
        let by_game = self.games.get(game);
        let by_type = self.types.get(kind).into_iter().flatten();
        let by_type = by_type.filter(move |number| by_game.is_none_or(|set| !set.contains(number)));
        let everything = self.everything.iter();
        everything.chain(by_game.into_iter().flatten()).chain(by_type).copied()
    }
}

fn take_out<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, BTreeSet<u32>>, key: &K, number: u32) {
    if let Some(numbers) = sets.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [&str; 3] = ["color", "dice", "multiplier"];

    fn topic() -> impl Strategy<Value = Topic> {
        let games = prop::collection::btree_set((0_i64..4).prop_map(GameId::number), 0..4);
        let types = prop::sample::subsequence(TYPES.to_vec(), 0..=3);
        let types = types.prop_map(|types| types.into_iter().map(Arc::from).collect());
        let some = (games, types).prop_map(|(games, types)| Topic::AnyOf { games, types });
        prop_oneof![1 => Just(Topic::Everything), 9 => some]
    }

    proptest! {
        #[test]
        fn a_round_finds_each_of_its_topics_once(
            topics in prop::collection::vec((topic(), any::<bool>()), 0..12),
        ) {
            let mut index = TopicIndex::default();
            for (number, (topic, _)) in (0..).zip(&topics) {
                index.add(topic, number);
            }
            for (number, (topic, _)) in (0..).zip(&topics).filter(|(_, (_, stays))| !stays) {
                index.remove(topic, number);
            }
            for (game, kind) in (0..4).flat_map(|game| TYPES.map(|kind| (GameId::number(game), kind))) {
                let mut found: Vec<u32> = index.of(&game, kind).collect();
                found.sort_unstable();
                let expected: Vec<u32> = (0..).zip(&topics)
                    .filter(|(_, (topic, stays))| *stays && topic.includes(&game, kind))
                    .map(|(number, _)| number).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn the_index_is_empty_after_its_topics_are_removed() {
        let mut index = TopicIndex::default();
        for topic in [Topic::Everything, Topic::game(GameId::number(1)), Topic::kind("color")] {
            index.add(&topic, 7);
            index.remove(&topic, 7);
        }
        assert!(index.everything.is_empty() && index.games.is_empty() && index.types.is_empty());
    }
}
