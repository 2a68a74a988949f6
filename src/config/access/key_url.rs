//! The URL of a JWK set.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::{Uri, header::HeaderValue, http::uri::Authority};

/// An `https` URL, or an `http` URL of this machine. Prints without its query, which may hold a
/// secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyUrl {
    is_https: bool,
    authority: Authority,
    path_and_query: Uri,
    host_header: HeaderValue,
}

impl KeyUrl {
    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, by default that of the scheme.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_https { 443 } else { 80 })
    }

    /// The target of the request.
    pub fn path_and_query(&self) -> Uri {
        self.path_and_query.clone()
    }

    /// The value of `Host`.
    pub fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }
}

impl FromStr for KeyUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "must be a file, or a URL such as https://login.example/.well-known/jwks.json";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let authority = uri.authority().cloned().ok_or(EXPECTED)?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(EXPECTED),
        };
        // A name and a password would be in logs, and are not sent.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(EXPECTED);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let path_and_query = target.parse().map_err(|_| EXPECTED)?;
        let host_header = HeaderValue::try_from(authority.as_str()).map_err(|_| EXPECTED)?;
        let url = Self { is_https, authority, path_and_query, host_header };
        if !is_https && !is_loopback(url.host()) {
            return Err("must begin with https: anybody on the way could replace the keys");
        }
        Ok(url)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path_and_query.path())
    }
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_accepted_from_any_host_and_http_from_this_machine_only() {
        for (text, host, port) in [
            ("https://login.example/keys", "login.example", 443),
            ("https://login.example:8443/keys?p=a", "login.example", 8443),
            ("http://localhost:1234/", "localhost", 1234),
            ("http://127.0.0.1", "127.0.0.1", 80),
            ("http://[::1]:99/x", "::1", 99),
        ] {
            let url: KeyUrl = text.parse().expect(text);
            assert_eq!((url.host(), url.port()), (host, port));
        }
        for text in [
            "http://login.example/keys",
            "http://localhost.example/keys",
            "http://10.0.0.1/",
            "https://user:hush@login.example/keys",
            "ftp://login.example/",
            "https:///keys",
            "https://",
        ] {
            assert!(text.parse::<KeyUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_printed_url_has_no_query() {
        let url: KeyUrl = "https://login.example/keys?code=hush".parse().expect("a URL");
        assert_eq!(format!("{url} {url:?}"), ["https://login.example/keys"; 2].join(" "));
        assert_eq!(url.path_and_query(), "/keys?code=hush");
    }
}
