//! When what is due: heartbeats spread over their interval, and the pace of a stop.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// The parts of an interval in which heartbeats go out, as long as they are no shorter than the
/// shortest and no longer than the longest tick: all at once would be a burst of pongs as well.
const SLICES: u32 = 64;
/// Shorter would wake the shard for nothing.
const TICK_MIN: Duration = Duration::from_millis(10);
/// Slow connections are looked at on each tick.
const TICK_MAX: Duration = Duration::from_millis(250);
/// Between two portions of the goodbyes.
const STOP_TICK: Duration = Duration::from_millis(20);
/// How much of the grace period the goodbyes may take; the rest is for those who hear them.
const STOP_SHARE: f64 = 0.7;
/// Goodbyes a second that nobody feels, over all shards: that many come back elsewhere.
const STOP_RATE: f64 = 1000.0;

/// The clock of a shard.
#[derive(Debug)]
pub(super) struct Heartbeats {
    tick: Duration,
    slices: u32,
    next: Instant,
    slice: u32,
}

impl Heartbeats {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        let tick = (heartbeat / SLICES).clamp(TICK_MIN, TICK_MAX);
        let slices = (heartbeat.as_nanos() / tick.as_nanos()).clamp(1, 1 << 20) as u32;
        let tick = heartbeat / slices;
        // The first connections come right after the start and have the first slots: half an
        // interval is theirs before the first heartbeat.
        Self { tick, slices, next: now + tick, slice: slices / 2 }
    }

    /// The slots that have their heartbeat now, of those below `end`: the first, and the steps
    /// between them. `None` when it is too early.
    pub(super) fn due(&mut self, now: Instant) -> Option<(u32, usize)> {
        if now < self.next {
            return None;
        }
        // After a long fan-out ticks are late; they are made up for one by one, up to a heartbeat.
        let late = now.duration_since(self.next) > self.tick * self.slices;
        self.next = if late { now } else { self.next } + self.tick;
        let slice = self.slice;
        self.slice = (slice + 1) % self.slices;
        Some((slice, self.slices as usize))
    }

    pub(super) fn tick(&self) -> Duration {
        self.tick
    }

    /// How long to sleep at most.
    pub(super) fn until_next(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}

/// A stop under way: all are told, at a pace that lets others take those who come back.
#[derive(Debug)]
pub(super) struct StopSchedule {
    began: Instant,
    grace: Duration,
    per_second: f64,
    told: u32,
}

impl StopSchedule {
    pub(super) fn new(connections: usize, shards: usize, grace: Duration, now: Instant) -> Self {
        let share = grace.as_secs_f64() * STOP_SHARE;
        let per_second = (connections as f64 / share).max(STOP_RATE / shards as f64);
        Self { began: now, grace, per_second, told: 0 }
    }

    /// The slots whose turn it is.
    pub(super) fn due(&mut self, now: Instant) -> Range<u32> {
        let elapsed = now.duration_since(self.began) + STOP_TICK;
        let due = elapsed.as_secs_f64() * self.per_second;
        // A cast of what is too large, or not a number, ends at the limit.
        let told = std::mem::replace(&mut self.told, due.ceil() as u32);
        told..self.told.max(told)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= self.grace
    }

    pub(super) fn tick(&self) -> Duration {
        STOP_TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_heartbeat_in_an_interval() {
        for heartbeat in [10, 100, 15_000, 3_600_000].map(Duration::from_millis) {
            let start = Instant::now();
            let mut heartbeats = Heartbeats::new(heartbeat, start);
            let mut beaten = [0; 200];
            let mut now = start;
            while now < start + heartbeat {
                now += heartbeats.until_next(now);
                let (first, step) = heartbeats.due(now).expect("due");
                (first as usize..200).step_by(step).for_each(|slot| beaten[slot] += 1);
            }
            assert!(beaten.iter().all(|count| (1..=2).contains(count)), "{heartbeat:?}");
            assert!(heartbeats.tick() <= TICK_MAX && heartbeats.due(now).is_none());
        }
    }

    #[test]
    fn few_are_told_at_once_and_many_within_the_grace_period() {
        let (start, grace) = (Instant::now(), Duration::from_secs(10));
        let mut few = StopSchedule::new(10, 2, grace, start);
        assert_eq!(few.due(start), 0..10);
        let mut many = StopSchedule::new(50_000, 2, grace, start);
        let first = many.due(start);
        assert!(first.start == 0 && first.end < 500, "{first:?}");
        let rest = many.due(start + grace * 7 / 10);
        assert!(rest.start == first.end && rest.end >= 50_000, "{rest:?}");
        assert!(!many.is_over(start + grace * 7 / 10) && many.is_over(start + grace));
    }

    #[test]
    fn without_a_grace_period_all_are_told_at_once() {
        let start = Instant::now();
        let mut stop = StopSchedule::new(50_000, 2, Duration::ZERO, start);
        assert!(stop.due(start).end >= 50_000);
    }
}
