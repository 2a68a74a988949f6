//! How long the capture waits for a notification before it polls without one.

use std::time::{Duration, Instant};

/// After a round more are likely to follow, of transactions that did not notify.
pub(super) const ACTIVE: Duration = Duration::from_millis(5);
/// How long after the last round the capture counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
/// On a quiet database: it also notices a dead connection. 0.11 ms each.
const IDLE: Duration = Duration::from_millis(250);
/// The same if no notification can be expected: 0.3 % of a core.
const UNNOTIFIED: Duration = Duration::from_millis(20);
/// Idle polls that find rounds without a notification, one after another, before they are expected
/// to do so: somebody holds the lock that a writer must get to notify.
const UNNOTIFIED_POLLS: u32 = 2;
/// How long they are expected to do so.
const UNNOTIFIED_FOR: Duration = Duration::from_secs(60);
/// Above so many rounds a second the polls of an active capture find everything in time, and each
/// NOTIFY is waste (share of inserts left at 8 asynchronous clients: 0.52 with, 0.66 without).
const SUPPRESS_ABOVE: u64 = 200;
/// Below so many rounds a second notifications are wanted again.
const SUPPRESS_UNTIL: u64 = 100;
/// The time over which the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// What the last polls found.
#[derive(Debug)]
pub(super) struct Pace {
    last_round: Option<Instant>,
    /// Idle polls in a row that found rounds without a notification.
    unnotified: u32,
    unnotified_until: Option<Instant>,
    window: Instant,
    in_window: u64,
    suppresses: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_round: None,
            unnotified: 0,
            unnotified_until: None,
            window: now,
            in_window: 0,
            suppresses: false,
        }
    }

    /// How long to wait. `is_notified`: whether notifications are sent, and arrive.
    pub(super) fn pause(&self, is_notified: bool, now: Instant) -> Duration {
        if self.is_active(now) {
            ACTIVE
        } else if is_notified && self.unnotified_until.is_none_or(|until| until < now) {
            IDLE
        } else {
            UNNOTIFIED
        }
    }

    /// Whether a round was found within the last second.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.last_round.is_some_and(|last| now.duration_since(last) < ACTIVE_FOR)
    }

    /// Records a poll: how many rounds it found, and whether a notification had come since the last.
    pub(super) fn record(&mut self, rounds: u64, notified: bool, now: Instant) {
        self.expect_notifications(rounds, notified, now);
        self.measure(rounds, now);
        if rounds > 0 {
            self.last_round = Some(now);
        }
    }

    fn expect_notifications(&mut self, rounds: u64, notified: bool, now: Instant) {
        if notified {
            self.unnotified = 0;
        } else if rounds > 0 && !self.is_active(now) {
            self.unnotified += 1;
            if self.unnotified >= UNNOTIFIED_POLLS {
                self.unnotified_until = Some(now + UNNOTIFIED_FOR);
            }
        }
    }

    fn measure(&mut self, rounds: u64, now: Instant) {
        self.in_window += rounds;
        let waits = self.in_window <= SUPPRESS_ABOVE || self.suppresses;
        if waits && now.duration_since(self.window) < RATE_WINDOW {
            return;
        }
        let least = if self.suppresses { SUPPRESS_UNTIL } else { SUPPRESS_ABOVE };
        self.suppresses = self.in_window > least;
        (self.window, self.in_window) = (now, 0);
    }

    /// Whether the server should hold the lock that a writer must get to notify.
    pub(super) fn suppresses(&self) -> bool {
        self.suppresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_polls_often_for_a_second_after_a_round_and_rarely_on_a_quiet_database() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((pace.pause(true, now), pace.pause(false, now)), (IDLE, UNNOTIFIED));
        pace.record(1, true, now);
        assert_eq!(pace.pause(true, now + ACTIVE_FOR / 2), ACTIVE);
        assert_eq!(pace.pause(true, now + ACTIVE_FOR), IDLE);
    }

    #[test]
    fn rounds_that_come_without_notifications_are_expected_to_do_so_for_a_minute() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..UNNOTIFIED_POLLS {
            assert_eq!(pace.pause(true, now), IDLE);
            pace.record(1, false, now);
            now += ACTIVE_FOR * 2;
        }
        assert_eq!(pace.pause(true, now), UNNOTIFIED);
        assert_eq!(pace.pause(true, now + UNNOTIFIED_FOR), IDLE);
    }

    #[test]
    fn a_notification_between_two_unnotified_rounds_clears_the_suspicion() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for notified in [false, true, false] {
            pace.record(1, notified, now);
            now += ACTIVE_FOR * 2;
        }
        assert_eq!(pace.pause(true, now), IDLE);
    }

    #[test]
    fn many_rounds_a_second_suppress_notifications_until_there_are_few() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pace.record(SUPPRESS_ABOVE, true, now);
        assert!(!pace.suppresses());
        pace.record(1, true, now);
        assert!(pace.suppresses(), "at once, not after the window");
        for rounds in [SUPPRESS_UNTIL + 1, SUPPRESS_UNTIL] {
            assert!(pace.suppresses());
            now += RATE_WINDOW;
            pace.record(rounds, true, now);
        }
        assert!(!pace.suppresses());
    }
}
