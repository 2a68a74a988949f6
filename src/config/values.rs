//! Parses durations and sizes. Each error names the accepted values.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;

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

/// How far back an edge's memory goes at its start.
pub(super) fn bus_fill(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO..=DAY * 30)
}

/// The silence of a leader. It sends a beat twice a second.
pub(super) fn bus_takeover(text: &str) -> Result<Duration, String> {
    within(text, MILLISECOND * 1_000..=MILLISECOND * 60_000)
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

/// The memory budget. Below 16 MiB its shares are smaller than one read of the database.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    size(text, ByteSize::mib(16)..=ByteSize::tib(1))
}

/// The most text in the extras of a round: PostgreSQL's largest value has 1 GiB.
pub(crate) fn max_round(text: &str) -> Result<usize, String> {
    size(text, ByteSize::b(1)..=ByteSize::gib(1))
}

/// The most bytes of a replay.
pub(super) fn resume_bytes(text: &str) -> Result<usize, String> {
    size(text, ByteSize::b(1)..=ByteSize::tib(1))
}

fn size(text: &str, range: RangeInclusive<ByteSize>) -> Result<usize, String> {
    let size: ByteSize = text
        .trim()
        .parse()
        .map_err(|_| "must be a number of bytes, such as 64KiB, 1MiB or 2GiB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(bytes) if range.contains(&size) => Ok(bytes),
        _ => Err(format!("must be from {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_with_or_without_a_unit() {
        assert_eq!(max_round("64KiB"), Ok(64 << 10));
        assert_eq!(max_round(" 1 MiB "), Ok(1 << 20));
        assert_eq!(memory("2GiB"), Ok(2 << 30));
        assert_eq!(max_round("1000"), Ok(1000));
        assert_eq!(max_round("5kB"), Ok(5000));
        for refused in ["", "x", "-1", "0", "1.5.2MiB", "MiB", "2GiB"] {
            assert!(max_round(refused).is_err(), "{refused}");
        }
        assert_eq!(memory("1KiB"), Err("must be from 16.0 MiB to 1.0 TiB".to_owned()));
    }

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
