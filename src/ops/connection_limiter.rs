//! The connection limiter: how many streams at once, per address, and per second.

use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Instant,
};

/// The configured limits; `None` turns a limit off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams at once.
    pub streams: usize,
    /// Streams at once from one client address.
    pub per_address: Option<NonZeroU32>,
    /// New streams per second, as a token bucket of one second.
    pub per_second: Option<NonZeroU32>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitReached {
    /// [`Limits::streams`].
    #[error("the server is full")]
    Streams,
    /// [`Limits::per_address`].
    #[error("too many streams are open from this address")]
    Address,
    /// [`Limits::per_second`].
    #[error("too many streams were opened within a second")]
    Rate,
}

/// Issues permits for streams within the limits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimiter(Arc<LimiterState>);

#[derive(Debug)]
struct LimiterState {
    limits: Limits,
    in_use: Mutex<PermitsInUse>,
}

#[derive(Debug)]
struct PermitsInUse {
    streams: usize,
    addresses: HashMap<IpAddr, u32>,
    /// Tokens of the rate limit at `counted_at`.
    tokens: f64,
    counted_at: Instant,
}

/// A permit for one stream, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<LimiterState>,
    /// Set if the limit per address is on.
    address: Option<IpAddr>,
}

impl ConnectionLimiter {
    /// A limiter with these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        let tokens = limits.per_second.map_or(0.0, |most| f64::from(most.get()));
        let addresses = HashMap::new();
        let in_use = PermitsInUse { streams: 0, addresses, tokens, counted_at: Instant::now() };
        Self(Arc::new(LimiterState { limits, in_use: Mutex::new(in_use) }))
    }

    /// Acquires a permit for a client of this address.
    pub(crate) fn acquire(&self, address: IpAddr) -> Result<Permit, LimitReached> {
        self.acquire_at(address, Instant::now())
    }

    fn acquire_at(&self, address: IpAddr, now: Instant) -> Result<Permit, LimitReached> {
        let Limits { streams, per_address, per_second } = self.0.limits;
        let mut in_use = self.0.in_use();
        if in_use.streams >= streams {
            return Err(LimitReached::Streams);
        }
        let address = per_address.map(|most| (network(address), most.get()));
        if let Some((network, most)) = address
            && in_use.addresses.get(&network).is_some_and(|open| *open >= most)
        {
            return Err(LimitReached::Address);
        }
        if let Some(most) = per_second {
            in_use.take_token(most, now)?;
        }
        in_use.streams += 1;
        let address = address.map(|(network, _)| network);
        if let Some(network) = address {
            *in_use.addresses.entry(network).or_default() += 1;
        }
        Ok(Permit { shared: Arc::clone(&self.0), address })
    }
}

impl PermitsInUse {
    /// Takes a token, if there is one.
    fn take_token(&mut self, most: NonZeroU32, now: Instant) -> Result<(), LimitReached> {
        let most = f64::from(most.get());
        let earned = now.duration_since(self.counted_at).as_secs_f64() * most;
        self.tokens = (self.tokens + earned).min(most);
        self.counted_at = now;
        if self.tokens < 1.0 {
            return Err(LimitReached::Rate);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

impl LimiterState {
    fn in_use(&self) -> MutexGuard<'_, PermitsInUse> {
        self.in_use.lock()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut in_use = self.shared.in_use();
        in_use.streams -= 1;
        if let Some(address) = self.address
            && let Some(open) = in_use.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                in_use.addresses.remove(&address);
            }
        }
    }
}

/// The unit of the limit per address. For IPv6 it is the /64 network, since a host has all its
/// addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(streams: usize, per_address: u32, per_second: u32) -> ConnectionLimiter {
        let [per_address, per_second] = [per_address, per_second].map(NonZeroU32::new);
        ConnectionLimiter::new(Limits { streams, per_address, per_second })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
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
}
