//! The rounds of several games in the order of the stream. Each game's are in order already, so that
//! the first few are found without looking at the others.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use super::ring::Entry;
use crate::stream::round::GameId;

/// The entries of all runs, by position.
pub(super) struct Merged<'a, I>(BinaryHeap<Run<'a, I>>);

/// What is left of one game's.
struct Run<'a, I> {
    game: GameId,
    first: &'a Entry,
    rest: I,
}

impl<'a, I: Iterator<Item = &'a Entry>> Merged<'a, I> {
    /// Of runs that are in order each.
    pub(super) fn new(runs: impl Iterator<Item = (GameId, I)>) -> Self {
        let begun = |(game, mut rest): (GameId, I)| Some(Run { game, first: rest.next()?, rest });
        Self(runs.filter_map(begun).collect())
    }
}

impl<'a, I: Iterator<Item = &'a Entry>> Iterator for Merged<'a, I> {
    type Item = (GameId, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let mut run = self.0.peek_mut()?;
        let next = (run.game, run.first);
        match run.rest.next() {
            Some(entry) => run.first = entry,
            None => drop(PeekMut::pop(run)),
        }
        Some(next)
    }
}

impl<I> Ord for Run<'_, I> {
    /// The other way round: a heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.first.position.cmp(&self.first.position)
    }
}

impl<I> PartialOrd for Run<'_, I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I> PartialEq for Run<'_, I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<I> Eq for Run<'_, I> {}
