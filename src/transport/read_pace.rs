//! How fast a client must read what only it gets: a replay, or a list.

use std::time::{Duration, Instant};

/// The bytes per second that a client must read, on average over two heartbeats.
const RATE_MIN: usize = 2 * 1024;
/// The same once the memory for such requests is half used.
const RATE_MIN_HALF_USED: usize = 64 * 1024;

/// The bytes per second that a client must read.
pub(crate) fn rate_min(is_memory_scarce: bool) -> usize {
    if is_memory_scarce { RATE_MIN_HALF_USED } else { RATE_MIN }
}

/// The bytes that a client took since some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPace {
    since: Instant,
    taken: usize,
}

impl ReadPace {
    /// A pace that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, taken: 0 }
    }

    /// Leaves out a time in which there was nothing to take.
    pub(crate) fn pause(&mut self, paused: Duration) {
        self.since += paused;
    }

    /// Counts bytes that the client took.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Whether the client took less than `rate` bytes per second since the last `window`. Begins
    /// again at the end of each.
    pub(crate) fn is_too_slow(&mut self, now: Instant, window: Duration, rate: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < window {
            return false;
        }
        let taken = std::mem::replace(self, Self::new(now)).taken;
        (taken as f64) < rate as f64 * elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_must_read_the_rate_on_average_over_each_window() {
        let (start, window) = (Instant::now(), Duration::from_secs(30));
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pace = ReadPace::new(start);
        pace.take(1);
        assert!(!pace.is_too_slow(after(29), window, RATE_MIN), "the window is not over");
        pace.take(60 * 1024);
        assert!(!pace.is_too_slow(after(30), window, RATE_MIN));
        pace.take(59 * 1024);
        assert!(pace.is_too_slow(after(60), window, RATE_MIN), "the first window does not count");
    }
}
