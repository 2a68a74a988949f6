//! How to reach the bus.

use std::{fmt, path::PathBuf, str::FromStr};

use async_nats::ServerAddr;

/// How to reach the bus, and what is ours on it.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// The servers.
    pub url: BusUrl,
    /// The stream's name.
    pub stream: String,
    /// The first tokens of every subject.
    pub prefix: String,
    /// A `.creds` file (JWT and nkey).
    pub creds: Option<PathBuf>,
    /// A certificate authority besides the system's.
    pub ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The JetStream domain of the region's mirror.
    pub domain: Option<String>,
    /// This server's name.
    pub node: String,
}

/// `nats://a,b,c` or `tls://…`, with a user and a password, which the client library ignores there.
#[derive(Clone)]
pub struct BusUrl {
    /// Without user and password.
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) user: Option<(String, String)>,
}

/// The text is no such URL. Never quotes it: it may have a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be nats://host:port or tls://host:port, several hosts separated by commas")]
pub struct InvalidBusUrl;

impl FromStr for BusUrl {
    type Err = InvalidBusUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBusUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidBusUrl)?;
        if !["nats", "tls"].contains(&scheme) {
            return Err(InvalidBusUrl);
        }
        let (mut servers, mut user) = (Vec::new(), None);
        for part in rest.trim_end_matches('/').split(',') {
            let part = part.trim();
            let part = part.strip_prefix(&format!("{scheme}://")).unwrap_or(part);
            let host = match part.rsplit_once('@') {
                Some((credentials, host)) => {
                    let (name, password) = credentials.split_once(':').ok_or(InvalidBusUrl)?;
                    user = Some((decoded(name)?, decoded(password)?));
                    host
                }
                None => part,
            };
            if host.is_empty() {
                return Err(InvalidBusUrl);
            }
            servers.push(format!("{scheme}://{host}").parse().map_err(|_| InvalidBusUrl)?);
        }
        Ok(Self { servers, user })
    }
}

fn decoded(text: &str) -> Result<String, InvalidBusUrl> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned()).map_err(|_| InvalidBusUrl)
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.servers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}://{}:{}", server.scheme(), server.host(), server.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_and_never_shown() {
        let url: BusUrl = "nats://u%40x:s%3Acret@a:4222,b:4223,c".parse().expect("a URL");
        assert_eq!(url.user, Some(("u@x".into(), "s:cret".into())));
        let shown = format!("{url} {url:?}");
        assert!(shown.starts_with("nats://a:4222,nats://b:4223,nats://c:4222 "), "{shown}");
        assert!(!shown.contains("cret"), "{shown}");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "a:4222", "http://a", "nats://", "nats://u@a", "nats://a,,b"] {
            assert_eq!(text.parse::<BusUrl>().err(), Some(InvalidBusUrl), "{text}");
        }
    }
}
