//! The unit of limits by client address.

use std::net::{IpAddr, Ipv6Addr};

/// The address itself; for IPv6 its /64 network, since a host has all addresses of one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}
