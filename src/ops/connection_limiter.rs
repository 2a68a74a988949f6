//! Who may still come in: how many streams at once, from one address, in a second.

use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Instant,
};

/// The limits, as configured; those that are off are `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams at once.
    pub streams: usize,
    /// Streams at once from one client address.
    pub per_address: Option<NonZeroU32>,
    /// New streams in a second, on average over a second.
    pub per_second: Option<NonZeroU32>,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// [`Limits::streams`].
    #[error("the server is full")]
    Streams,
    /// [`Limits::per_address`].
    #[error("this address has as many streams as it may have")]
    Address,
    /// [`Limits::per_second`].
    #[error("too many streams were opened within a second")]
    Rate,
}

/// All places for streams. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    streams: usize,
    addresses: HashMap<IpAddr, u32>,
    /// New streams that are allowed at `counted`.
    allowance: f64,
    counted: Instant,
}

/// A place that is taken; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    /// Only where addresses are counted.
    address: Option<IpAddr>,
}

impl Places {
    /// As many places as the limits allow.
    pub(crate) fn new(limits: Limits) -> Self {
        let allowance = limits.per_second.map_or(0.0, |most| f64::from(most.get()));
        let addresses = HashMap::new();
        let taken = Taken { streams: 0, addresses, allowance, counted: Instant::now() };
        Self(Arc::new(Shared { limits, taken: Mutex::new(taken) }))
    }

    /// Takes a place for a client of this address.
    pub(crate) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        self.take_at(address, Instant::now())
    }

    fn take_at(&self, address: IpAddr, now: Instant) -> Result<Place, Full> {
        let Limits { streams, per_address, per_second } = self.0.limits;
        let mut taken = self.0.taken();
        if taken.streams >= streams {
            return Err(Full::Streams);
        }
        let address = per_address.map(|most| (network(address), most.get()));
        if let Some((network, most)) = address
            && taken.addresses.get(&network).is_some_and(|open| *open >= most)
        {
            return Err(Full::Address);
        }
        if let Some(most) = per_second {
            taken.allow(most, now)?;
        }
        taken.streams += 1;
        let address = address.map(|(network, _)| network);
        if let Some(network) = address {
            *taken.addresses.entry(network).or_default() += 1;
        }
        Ok(Place { shared: Arc::clone(&self.0), address })
    }
}

impl Taken {
    /// Allows one more, if the last second leaves room for it.
    fn allow(&mut self, most: NonZeroU32, now: Instant) -> Result<(), Full> {
        let most = f64::from(most.get());
        let earned = now.duration_since(self.counted).as_secs_f64() * most;
        self.allowance = (self.allowance + earned).min(most);
        self.counted = now;
        if self.allowance < 1.0 {
            return Err(Full::Rate);
        }
        self.allowance -= 1.0;
        Ok(())
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.streams -= 1;
        if let Some(address) = self.address
            && let Some(open) = taken.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                taken.addresses.remove(&address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the network, since a host has all addresses of its own.
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

    fn places(streams: usize, per_address: u32, per_second: u32) -> Places {
        let [per_address, per_second] = [per_address, per_second].map(NonZeroU32::new);
        Places::new(Limits { streams, per_address, per_second })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_place_that_is_given_back_can_be_taken_again() {
        let (places, from) = (places(1, 0, 0), address("10.0.0.1"));
        let place = places.take(from).expect("a place");
        assert_eq!(places.take(from).err(), Some(Full::Streams));
        drop(place);
        assert!(places.take(from).is_ok());
    }

    #[test]
    fn an_address_takes_no_more_than_its_share() {
        let places = places(10, 1, 0);
        let place = places.take(address("10.0.0.1")).expect("a place");
        assert_eq!(places.take(address("::ffff:10.0.0.1")).err(), Some(Full::Address));
        let _other = places.take(address("10.0.0.2")).expect("another address");
        drop(place);
        let _again = places.take(address("10.0.0.1")).expect("given back");
        let _v6 = places.take(address("2001:db8::1")).expect("another address");
        assert_eq!(places.take(address("2001:db8::2")).err(), Some(Full::Address));
        assert!(places.take(address("2001:db8:0:1::2")).is_ok());
    }

    #[test]
    fn more_than_the_rate_must_wait_and_a_pause_earns_no_more_than_a_second() {
        let (places, from, start) = (places(100, 0, 2), address("10.0.0.1"), Instant::now());
        let take =
            |after: f64| places.take_at(from, start + Duration::from_secs_f64(after)).is_ok();
        let _ = (take(0.0), take(0.0));
        assert!(!take(0.1));
        assert!(take(0.6));
        assert_eq!([take(60.0), take(60.0), take(60.0)], [true, true, false]);
    }
}
