//! The limits on streams, and which connection without one is closed.

use std::time::Duration;

use super::*;

fn limiter(streams: usize, per_address: u32, per_second: u32) -> ConnectionLimiter {
    let [per_address, per_second] = [per_address, per_second].map(NonZeroU32::new);
    ConnectionLimiter::new(Limits { streams, per_address, per_second }, Metrics::default())
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

#[test]
fn a_released_permit_can_be_acquired_again() {
    let (limiter, from) = (limiter(1, 0, 0), address("10.0.0.1"));
    let permit = limiter.acquire(from).expect("a permit");
    assert_eq!(limiter.acquire(from).err(), Some(LimitReached::Streams));
    drop(permit);
    assert!(limiter.acquire(from).is_ok());
}

#[test]
fn an_address_gets_no_more_permits_than_its_limit() {
    let limiter = limiter(10, 1, 0);
    let permit = limiter.acquire(address("10.0.0.1")).expect("a permit");
    assert_eq!(limiter.acquire(address("::ffff:10.0.0.1")).err(), Some(LimitReached::Address));
    let _other = limiter.acquire(address("10.0.0.2")).expect("another address");
    drop(permit);
    let _again = limiter.acquire(address("10.0.0.1")).expect("released");
    let _v6 = limiter.acquire(address("2001:db8::1")).expect("another address");
    assert_eq!(limiter.acquire(address("2001:db8::2")).err(), Some(LimitReached::Address));
    assert!(limiter.acquire(address("2001:db8:0:1::2")).is_ok());
}

#[test]
fn the_rate_limit_refills_over_time_up_to_one_second() {
    let (limiter, from, start) = (limiter(100, 0, 2), address("10.0.0.1"), Instant::now());
    let acquire =
        |after: f64| limiter.acquire_at(from, start + Duration::from_secs_f64(after)).is_ok();
    let _ = (acquire(0.0), acquire(0.0));
    assert!(!acquire(0.1));
    assert!(acquire(0.6));
    assert_eq!([acquire(60.0), acquire(60.0), acquire(60.0)], [true, true, false]);
}

/// The connections that must close.
fn closing(connections: &[PendingConnection]) -> Vec<usize> {
    let ids = connections.iter().enumerate();
    ids.filter(|(_, it)| it.close.is_cancelled()).map(|(number, _)| number).collect()
}

fn connect(limiter: &ConnectionLimiter, from: &str, at: Instant) -> PendingConnection {
    limiter.connect_at(Kind::Http, address(from), at).expect("room")
}

#[test]
fn the_oldest_connection_of_the_address_that_has_most_is_closed_first() {
    let (limiter, start) = (limiter(100_000, 0, 0), Instant::now());
    let other = connect(&limiter, "10.0.0.2", start);
    let crowd: Vec<_> = (0..PENDING_MAX).map(|_| connect(&limiter, "10.0.0.1", start)).collect();
    assert!(!other.close.is_cancelled());
    assert_eq!(closing(&crowd).len(), 1);
    let _next = connect(&limiter, "10.0.0.3", start);
    assert_eq!(closing(&crowd).len(), 2);
}

#[test]
fn a_connection_beyond_the_limit_is_closed_once_it_has_waited_a_second() {
    let (limiter, start) = (limiter(2, 0, 0), Instant::now());
    let second = Duration::from_secs(1);
    let all: Vec<_> = (0..3).map(|_| connect(&limiter, "10.0.0.1", start)).collect();
    all[0].begin_request();
    assert!(closing(&all).is_empty());
    let _later = connect(&limiter, "10.0.0.1", start + second);
    assert_eq!(closing(&all), [1, 2]);
}

#[test]
fn an_address_beyond_its_limit_loses_its_oldest_connection_and_no_other_does() {
    let (limiter, start) = (limiter(100, 2, 0), Instant::now());
    let other = connect(&limiter, "10.0.0.2", start);
    let permit = limiter.acquire(address("10.0.0.1")).expect("a permit");
    let all: Vec<_> = (0..2).map(|_| connect(&limiter, "10.0.0.1", start)).collect();
    let _later = connect(&limiter, "10.0.0.3", start + Duration::from_secs(1));
    assert_eq!(closing(&all).len(), 1);
    assert!(!other.close.is_cancelled());
    drop(permit);
    assert!(limiter.acquire(address("10.0.0.1")).is_ok());
}

#[test]
fn connections_that_read_their_responses_are_never_closed_for_others() {
    let (limiter, start) = (limiter(100_000, 0, 0), Instant::now());
    let all: Vec<_> = (0..PENDING_MAX).map(|_| connect(&limiter, "10.0.0.1", start)).collect();
    all.iter().for_each(PendingConnection::begin_request);
    assert!(limiter.connect_at(Kind::Http, address("10.0.0.2"), start).is_none());
    all[5].is_blocked.store(true, std::sync::atomic::Ordering::Relaxed);
    let _next = connect(&limiter, "10.0.0.2", start);
    assert_eq!(closing(&all), [5]);
}

#[test]
fn an_unknown_address_has_no_limit() {
    let limiter = limiter(100, 1, 0);
    let _permits: Vec<_> = (0..5).map(|_| limiter.acquire(None).expect("a permit")).collect();
}
