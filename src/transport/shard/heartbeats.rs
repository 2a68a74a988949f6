//! The timers of a shard: heartbeats spread over their interval, and the pace of a stop.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Heartbeats are spread over this many ticks per interval, within [`TICK_MIN`] and [`TICK_MAX`].
/// All at once would cause a burst of pongs.
const SLICES: u32 = 64;
/// Shorter ticks would wake the shard without need.
const TICK_MIN: Duration = Duration::from_millis(10);
/// Slow connections are checked on each tick.
const TICK_MAX: Duration = Duration::from_millis(250);
/// The time between two batches of close messages.
const STOP_TICK: Duration = Duration::from_millis(20);
/// The share of the grace period for sending close messages. The rest is for the clients' answers.
const STOP_SHARE: f64 = 0.7;
/// Close messages per second over all shards: other servers can accept as many reconnects.
const STOP_RATE: f64 = 1000.0;

/// The heartbeat timer of a shard.
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
        // The first connections arrive right after the start, in the first slots. They have half an
        // interval before their first heartbeat.
        Self { tick, slices, next: now + tick, slice: slices / 2 }
    }

    /// The slots whose heartbeat is due: the first slot, and the step to the next. `None` if the
    /// next tick is later.
    pub(super) fn due(&mut self, now: Instant) -> Option<(u32, usize)> {
        if now < self.next {
            return None;
        }
        // After a long fan-out, late ticks follow one another, up to one interval of them.
        let late = now.duration_since(self.next) > self.tick * self.slices;
        self.next = if late { now } else { self.next } + self.tick;
        let slice = self.slice;
        self.slice = (slice + 1) % self.slices;
        Some((slice, self.slices as usize))
    }

    pub(super) fn tick(&self) -> Duration {
        self.tick
    }

    /// The time until the next tick.
    pub(super) fn until_next(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}

/// The schedule of a stop: it closes all connections, at a pace at which other servers can accept
/// the reconnects.
#[derive(Debug)]
pub(super) struct StopSchedule {
    started: Instant,
    grace: Duration,
    per_second: f64,
    closed: u32,
}

impl StopSchedule {
    pub(super) fn new(connections: usize, shards: usize, grace: Duration, now: Instant) -> Self {
        let share = grace.as_secs_f64() * STOP_SHARE;
        let per_second = (connections as f64 / share).max(STOP_RATE / shards as f64);
        Self { started: now, grace, per_second, closed: 0 }
    }

    /// The slots to close now.
    pub(super) fn due(&mut self, now: Instant) -> Range<u32> {
        let elapsed = now.duration_since(self.started) + STOP_TICK;
        let due = elapsed.as_secs_f64() * self.per_second;
        // The cast saturates: without a grace period, the rate is infinite or not a number.
        let closed = std::mem::replace(&mut self.closed, due.ceil() as u32);
        closed..self.closed.max(closed)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.started) >= self.grace
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
            let mut sent = [0; 200];
            let mut now = start;
            while now < start + heartbeat {
                now += heartbeats.until_next(now);
                let (first, step) = heartbeats.due(now).expect("due");
                (first as usize..200).step_by(step).for_each(|slot| sent[slot] += 1);
            }
            assert!(sent.iter().all(|count| (1..=2).contains(count)), "{heartbeat:?}");
            assert!(heartbeats.tick() <= TICK_MAX && heartbeats.due(now).is_none());
        }
    }

    #[test]
    fn few_connections_close_at_once_and_many_within_the_grace_period() {
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
    fn without_a_grace_period_all_connections_close_at_once() {
        let start = Instant::now();
        let mut stop = StopSchedule::new(50_000, 2, Duration::ZERO, start);
        assert!(stop.due(start).end >= 50_000);
    }
}
