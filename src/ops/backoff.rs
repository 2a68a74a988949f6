//! Exponential backoff with jitter, so that many processes do not reconnect at the same time.

use std::time::Duration;

/// LISTEN works again 4 ms after a backend is terminated and 190 ms after a restart.
const FIRST: Duration = Duration::from_millis(10);
/// A longer delay would prolong the outage noticeably.
const MAX: Duration = Duration::from_secs(1);

/// Delays that double from 10 ms to 1 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next delay: between half of the step and the whole step.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delay_up_to(MAX)
    }

    /// The next delay, with the step limited to `max`.
    pub(crate) fn delay_up_to(&mut self, max: Duration) -> Duration {
        let step = self.next.min(max);
        self.next = (self.next * 2).min(MAX);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts again with the shortest delay, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_second_and_start_over_after_a_reset() {
        let mut backoff = Backoff::default();
        let first = backoff.delay();
        assert!((FIRST / 2..=FIRST).contains(&first), "{first:?}");
        let last = (0..20).map(|_| backoff.delay()).last().expect("20 delays");
        assert!((MAX / 2..=MAX).contains(&last), "{last:?}");
        let short = backoff.delay_up_to(FIRST);
        assert!((FIRST / 2..=FIRST).contains(&short), "{short:?}");
        assert!(backoff.delay() > FIRST, "a limited delay does not reset the backoff");
        backoff.reset();
        assert!(backoff.delay() <= FIRST);
    }
}
