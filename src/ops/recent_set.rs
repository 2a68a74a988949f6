//! A set of the values that were added last, to recognize one that repeats.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// At most `MOST` values. A value that is added once more keeps its age.
#[derive(Debug)]
pub(crate) struct RecentSet<T, const MOST: usize> {
    values: HashSet<T>,
    order: VecDeque<T>,
}

impl<T, const MOST: usize> Default for RecentSet<T, MOST> {
    fn default() -> Self {
        Self { values: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Clone + Eq + Hash, const MOST: usize> RecentSet<T, MOST> {
    /// Whether the value was added, and not removed since.
    pub(crate) fn contains(&self, value: &T) -> bool {
        self.values.contains(value)
    }

    /// Adds a value, and removes the oldest one if there are too many. Returns whether it is new.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        if !self.values.insert(value.clone()) {
            return false;
        }
        self.order.push_back(value);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_values_are_removed() {
        let mut set = RecentSet::<_, 3>::default();
        assert!((1..=3).all(|value| set.insert(value)));
        assert!(!set.insert(1), "it is there, and keeps its age");
        assert!(set.insert(4));
        let left: Vec<_> = (1..=4).filter(|value| set.contains(value)).collect();
        assert_eq!((left, set.values.len(), set.order.len()), (vec![2, 3, 4], 3, 3));
    }
}
