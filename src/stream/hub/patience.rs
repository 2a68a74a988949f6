//! How long the publisher of many rounds waits for those that are behind.

use std::time::{Duration, Instant};

/// The longest wait between two parts. A client that reads slowly must not stop the others.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// The longest wait without progress. A reader whose socket has megabytes shows none for long.
const QUIET_MAX: Duration = WAIT_MAX;
/// Progress is at least so many bytes.
const PROGRESS_MIN: usize = 16 * 1024;

/// Ends when nobody goes on, or after [`WAIT_MAX`].
#[derive(Debug)]
pub(super) struct Patience {
    begun: Instant,
    /// The last progress: when, and the number of bytes then.
    last: Option<(Instant, usize)>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, last: None }
    }

    /// Whether to wait on, if so many bytes were taken until now.
    pub(super) fn lasts(&mut self, taken: usize, now: Instant) -> bool {
        let (since, before) = *self.last.get_or_insert((now, taken));
        let has_progress = taken.wrapping_sub(before) >= PROGRESS_MIN;
        if has_progress {
            self.last = Some((now, taken));
        }
        let is_quiet = !has_progress && now.duration_since(since) >= QUIET_MAX;
        !is_quiet && now.duration_since(self.begun) < WAIT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds until the patience ends, if so many bytes are taken in each.
    fn waited(bytes: usize) -> u128 {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let moments = (0..).map(|passed| begun + Duration::from_millis(passed));
        let mut ends = moments.enumerate();
        let end = ends.find(|(passed, now)| !patience.lasts(passed * bytes, *now));
        end.expect("an end").1.duration_since(begun).as_millis()
    }

    #[test]
    fn an_outlet_that_takes_nothing_or_a_byte_now_and_then_is_waited_for_briefly() {
        assert_eq!(waited(0), WAIT_MAX.as_millis());
        assert_eq!(waited(100), WAIT_MAX.as_millis());
    }

    #[test]
    fn an_outlet_that_goes_on_is_waited_for_longer() {
        assert_eq!(waited(400), 500);
        assert_eq!(waited(100_000), 500);
    }
}
