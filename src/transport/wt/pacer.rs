//! The pauses between the parts of a burst, in which the links take what they were given.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

/// Between two looks whether the links have taken a part.
const LOOK: Duration = Duration::from_millis(2);
/// So long they may take for it: what is late is worth less than what is new. Who takes longer is
/// not waited for again in this delivery.
const PART_WAIT: Duration = Duration::from_millis(50);
/// So long they may keep a delivery waiting in all: newcomers and those who leave wait as long.
const DELIVERY_WAIT: Duration = Duration::from_millis(500);

/// Waits for the links between the parts of one delivery.
#[derive(Debug)]
pub(super) struct Pacer {
    /// What is left of the time for it.
    left: Duration,
    /// Sessions that made no room in time. Too late is no error: they lose their oldest rounds.
    slow: HashSet<usize>,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { left: DELIVERY_WAIT, slow: HashSet::new() }
    }
}

impl Pacer {
    /// Waits until most sessions have room for another part, as told by `roomy` for each.
    pub(super) async fn wait<I>(&mut self, sessions_with_room: impl Fn() -> I)
    where
        I: Iterator<Item = (usize, bool)>,
    {
        // This much is the pace of a link that follows, and costs nothing of the time for the others:
        // after 170 parts it would be used up, and the rest be lost to all.
        sleep(LOOK).await;
        let start = Instant::now();
        while !self.is_over(start.elapsed(), &sessions_with_room) {
            sleep(LOOK).await;
        }
    }

    /// Whether three in four have room, for the slowest must not hold up all; or the time is over.
    fn is_over<I>(&mut self, waited: Duration, sessions_with_room: impl Fn() -> I) -> bool
    where
        I: Iterator<Item = (usize, bool)>,
    {
        let followed = self.enough(sessions_with_room());
        let over = followed || waited >= PART_WAIT.min(self.left);
        if over && !followed {
            self.slow
                .extend(sessions_with_room().filter(|(_, has_room)| !has_room).map(|(id, _)| id));
        }
        if over {
            self.left = self.left.saturating_sub(waited);
        }
        over
    }

    fn enough(&self, sessions_with_room: impl Iterator<Item = (usize, bool)>) -> bool {
        let (mut awaited, mut ready) = (0, 0);
        for (_, has_room) in sessions_with_room.filter(|(id, _)| !self.slow.contains(id)) {
            awaited += 1;
            ready += usize::from(has_room);
        }
        ready * 4 >= awaited * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a burst of 1,000 parts is held up by sessions that have room as told for each part.
    fn held_up(sessions_with_room: impl Fn(usize) -> Vec<bool>) -> Duration {
        let (mut pacer, mut held_up) = (Pacer::default(), Duration::ZERO);
        for part in 0..1_000 {
            let mut waited = Duration::ZERO;
            while !pacer.is_over(waited, || sessions_with_room(part).into_iter().enumerate()) {
                waited += LOOK;
            }
            held_up += waited;
        }
        held_up
    }

    #[test]
    fn links_that_follow_hold_nothing_up() {
        assert_eq!(held_up(|_| vec![true; 8]), Duration::ZERO);
    }

    #[test]
    fn a_link_that_takes_nothing_is_waited_for_once() {
        assert_eq!(held_up(|_| vec![true, false]), PART_WAIT);
        assert_eq!(held_up(|_| vec![false; 8]), PART_WAIT);
    }

    #[test]
    fn the_slowest_quarter_is_not_waited_for() {
        assert_eq!(held_up(|_| vec![true, true, true, false]), Duration::ZERO);
    }

    #[test]
    fn links_that_are_slow_in_turn_hold_a_burst_up_for_half_a_second() {
        // Of the two that were not slow before, one is now.
        let in_turn = |part| (0..part + 2).map(|id| id != part + 1).collect();
        assert_eq!(held_up(in_turn), DELIVERY_WAIT);
    }
}
