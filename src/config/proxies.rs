//! The proxies whose `X-Forwarded-For` header counts.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

/// Networks of proxies. Behind them, the client's address is the last one of `X-Forwarded-For` that
/// is not one of theirs: those before it were sent by the client, who may have made them up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// The client's address if this peer is the client itself.
    pub fn direct(&self, peer: IpAddr) -> Option<IpAddr> {
        (!self.contains(peer)).then_some(peer)
    }

    /// The address of the client behind this peer, with the values of its `X-Forwarded-For`
    /// headers. `None` if it is unknown.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> Option<IpAddr> {
        if !self.contains(peer) {
            return Some(peer);
        }
        for value in forwarded.rev() {
            for entry in std::str::from_utf8(value).ok()?.rsplit(',') {
                let address = address(entry)?;
                if !self.contains(address) {
                    return Some(address);
                }
            }
        }
        None
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: some add a port, or quotes.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    let bare = entry.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let address = bare.unwrap_or(entry).parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

impl FromStr for TrustedProxies {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = |text: &str| {
            let network = text.parse::<IpNet>().ok();
            let network = network.or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)));
            network.ok_or("must be networks such as 10.0.0.0/8,fd00::/8, separated by commas")
        };
        text.split(',').map(|item| network(item.trim())).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> Option<String> {
        let proxies: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().expect("networks");
        let values = forwarded.iter().map(|value| value.as_bytes());
        proxies.client(peer.parse().expect("an address"), values).map(|it| it.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        let known = |text: &str| Some(text.to_owned());
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 2.2.2.2, 10.0.0.2"]), known("2.2.2.2"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "2.2.2.2", "10.0.0.2"]), known("2.2.2.2"));
        assert_eq!(client("::ffff:10.0.0.1", &["\"[2001:db8::1]:443\""]), known("2001:db8::1"));
        assert_eq!(client("fd00::1", &["3.3.3.3:8080"]), known("3.3.3.3"));
    }

    #[test]
    fn without_a_usable_header_the_client_is_unknown() {
        for forwarded in [&[][..], &[""], &["unknown"], &["1.1.1.1, _hidden"], &["10.0.0.9"]] {
            assert_eq!(client("10.0.0.1", forwarded), None, "{forwarded:?}");
        }
    }

    #[test]
    fn the_header_of_a_stranger_does_not_count() {
        assert_eq!(client("9.9.9.9", &["1.1.1.1"]), Some("9.9.9.9".to_owned()));
    }

    #[test]
    fn a_value_that_is_no_network_is_refused() {
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/8,", "10.0.0.0/8 fd00::/8"] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
        assert!("127.0.0.1".parse::<TrustedProxies>().is_ok());
    }
}
