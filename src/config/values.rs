//! Parses durations. Each error names the accepted values.

use std::{ops::RangeInclusive, time::Duration};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The heartbeat interval. Below 10 ms the server would do nothing else. Idle limits of browsers,
/// proxies and routers are far below an hour.
pub(super) fn heartbeat(text: &str) -> Result<Duration, String> {
    within(text, MILLISECOND * 10..=HOUR)
}

/// The retention of outbox rows.
pub(crate) fn retention(text: &str) -> Result<Duration, String> {
    within(text, MILLISECOND..=DAY * 3650)
}

/// The limit for a stop.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO..=HOUR)
}

/// The difference between clocks. Tokens count whole seconds (RFC 7519 section 2).
pub(super) fn leeway(text: &str) -> Result<Duration, String> {
    let leeway = within(text, Duration::ZERO..=MILLISECOND * 300_000)?;
    if leeway.subsec_nanos() > 0 {
        return Err("must be whole seconds, such as 30s".to_owned());
    }
    Ok(leeway)
}

fn within(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim())
        .map_err(|_| "must be a duration with a unit, such as 15s, 500ms or 24h".to_owned())?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [low, high] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
    Err(format!("must be from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_stays_within_its_range() {
        assert_eq!(heartbeat("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(heartbeat("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(grace("0s"), Ok(Duration::ZERO));
        assert_eq!(heartbeat("0s"), Err("must be from 10ms to 1h".to_owned()));
        assert!(heartbeat("15").is_err_and(|error| error.contains("unit")));
        assert!(retention("0s").is_err());
        assert_eq!(leeway("0s"), Ok(Duration::ZERO));
        assert_eq!(leeway("5m"), Ok(Duration::from_secs(300)));
        for refused in ["301s", "500ms", "30", "-1s"] {
            assert!(leeway(refused).is_err(), "{refused}");
        }
    }
}
