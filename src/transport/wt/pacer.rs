//! The pauses between the parts of a burst, in which the connections send what they have buffered.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

/// The time between two checks of the send buffers.
const LOOK: Duration = Duration::from_millis(2);
/// The longest wait after one part, because new rounds matter more than late ones. The pacer does
/// not wait for a slower session again in this delivery.
const PART_WAIT: Duration = Duration::from_millis(50);
/// The longest wait in one delivery. Sessions that join or leave wait as long.
const DELIVERY_WAIT: Duration = Duration::from_millis(500);

/// Waits between the parts of one delivery.
#[derive(Debug)]
pub(super) struct Pacer {
    /// The rest of [`DELIVERY_WAIT`].
    left: Duration,
    /// Sessions whose buffer stayed full too long. They lose their oldest rounds.
    slow: HashSet<usize>,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { left: DELIVERY_WAIT, slow: HashSet::new() }
    }
}

impl Pacer {
    /// Waits until most sessions have room for another part.
    pub(super) async fn wait<I>(&mut self, sessions_with_room: impl Fn() -> I)
    where
        I: Iterator<Item = (usize, bool)>,
    {
        // This first pause is not part of `DELIVERY_WAIT`: 170 parts would use that up, and all
        // sessions would lose the other parts.
        sleep(LOOK).await;
        let start = Instant::now();
        while !self.is_over(start.elapsed(), &sessions_with_room) {
            sleep(LOOK).await;
        }
    }

    /// Whether three of four sessions have room, or the time is up. The slowest must not delay all.
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

    /// How long these sessions delay a burst of 1,000 parts. The closure tells who has room, per
    /// part.
    fn delay_by(sessions_with_room: impl Fn(usize) -> Vec<bool>) -> Duration {
        let (mut pacer, mut delay_by) = (Pacer::default(), Duration::ZERO);
        for part in 0..1_000 {
            let mut waited = Duration::ZERO;
            while !pacer.is_over(waited, || sessions_with_room(part).into_iter().enumerate()) {
                waited += LOOK;
            }
            delay_by += waited;
        }
        delay_by
    }

    #[test]
    fn sessions_that_keep_up_cause_no_delay() {
        assert_eq!(delay_by(|_| vec![true; 8]), Duration::ZERO);
    }

    #[test]
    fn a_session_that_reads_nothing_delays_a_burst_once() {
        assert_eq!(delay_by(|_| vec![true, false]), PART_WAIT);
        assert_eq!(delay_by(|_| vec![false; 8]), PART_WAIT);
    }

    #[test]
    fn the_slowest_quarter_causes_no_delay() {
        assert_eq!(delay_by(|_| vec![true, true, true, false]), Duration::ZERO);
    }

    #[test]
    fn sessions_that_are_slow_in_turn_delay_a_burst_by_half_a_second() {
        // Of the two sessions that were not slow before, one is slow now.
        let in_turn = |part| (0..part + 2).map(|id| id != part + 1).collect();
        assert_eq!(delay_by(in_turn), DELIVERY_WAIT);
    }
}
