//! Numbered places for the connections of a shard: a number stays with its connection, and is
//! given again once that is gone.

/// A dense table. A number fits 32 bits: there are no more descriptors in a process.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts an entry in; returns its number.
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = Some(entry);
            return slot;
        }
        self.entries.push(Some(entry));
        (self.entries.len() - 1) as u32
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    /// Takes an entry out; its number may be given again at once.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.entries.get_mut(slot as usize)?.take();
        if entry.is_some() {
            self.free.push(slot);
        }
        entry
    }

    /// Numbers are below this.
    pub(super) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_only_once_it_is_free() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.count(), 1);
        assert_eq!(slots.insert('c'), a);
        assert_eq!(slots.insert('d'), b + 1);
        assert_eq!(slots.get_mut(a).copied(), Some('c'));
        assert_eq!(slots.get_mut(9), None);
        assert_eq!((slots.count(), slots.end()), (3, 3));
    }
}
