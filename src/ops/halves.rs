//! Halving: finds the items that make a query of many fail.
//!
//! One bad item among 1,000 costs some twenty queries.

/// The parts of a list that are still to be read, in order.
#[derive(Debug)]
pub(crate) struct Halves<'a, T> {
    pending: Vec<&'a [T]>,
}

impl<'a, T> Halves<'a, T> {
    /// All items in one part.
    pub(crate) fn of(items: &'a [T]) -> Self {
        Self { pending: vec![items] }
    }

    /// Takes the next part.
    pub(crate) fn next_part(&mut self) -> Option<&'a [T]> {
        self.pending.pop()
    }

    /// The item after the parts that were taken.
    pub(crate) fn following(&self) -> Option<&'a T> {
        self.pending.last()?.first()
    }

    /// Puts a part that failed back as two halves. The bad item is returned if it is alone.
    pub(crate) fn split(&mut self, failed: &'a [T]) -> Option<&'a T> {
        if let [] | [_] = failed {
            return failed.first();
        }
        let (first, second) = failed.split_at(failed.len() / 2);
        self.pending.extend([second, first]);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The good and the bad items in the order in which they were read, and the number of reads.
    fn read(items: &[i32]) -> (Vec<i32>, Vec<i32>, usize) {
        let (mut good, mut bad, mut reads) = (Vec::new(), Vec::new(), 0);
        let mut halves = Halves::of(items);
        while let Some(part) = halves.next_part() {
            reads += 1;
            if part.iter().all(|item| *item >= 0) {
                good.extend(part);
                assert_eq!(halves.following(), items.get(good.len() + bad.len()));
            } else {
                bad.extend(halves.split(part));
            }
        }
        (good, bad, reads)
    }

    #[test]
    fn every_bad_item_is_found_and_the_others_are_read_in_order() {
        assert_eq!(read(&[1, -2, 3, 4, -5]), (vec![1, 3, 4], vec![-2, -5], 9));
        assert_eq!(read(&[]), (vec![], vec![], 1));
        assert_eq!(read(&[-1]), (vec![], vec![-1], 1));
    }

    #[test]
    fn one_bad_item_among_a_thousand_costs_some_twenty_reads() {
        let items: Vec<i32> = (0..1_000).map(|n| if n == 700 { -1 } else { n }).collect();
        let (good, bad, reads) = read(&items);
        assert_eq!((good.len(), bad.len()), (999, 1));
        assert!(reads <= 21, "{reads}");
    }
}
