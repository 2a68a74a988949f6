//! The web pages that may connect.

use std::str::FromStr;

/// The origins allowed on WebSocket and WebTransport handshakes and by CORS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every page, for a public feed.
    Any,
    /// These only, in the form of the Origin header: `https://game.example` without a path, or
    /// `null`, which sandboxed frames and local files send.
    List(Vec<String>),
}

/// The origin of a page that the browser does not name. Any page can have it.
const NULL: &str = "null";

impl AllowedOrigins {
    /// Whether a page of this origin may connect.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::List(origins) => origins.iter().any(|known| known.eq_ignore_ascii_case(origin)),
        }
    }

    /// Whether a page of this origin may send credentials: only if the list names it. `null` names
    /// no page.
    pub fn allows_credentials(&self, origin: &str) -> bool {
        matches!(self, Self::List(_)) && self.allows(origin) && !origin.eq_ignore_ascii_case(NULL)
    }

    /// Whether this is a list, and without `null`.
    pub fn is_list_of_pages(&self) -> bool {
        matches!(self, Self::List(_)) && !self.allows(NULL)
    }
}

impl FromStr for AllowedOrigins {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items: Vec<_> =
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        match items[..] {
            [] => Err("must be * or a list of origins such as https://game.example"),
            ["*"] => Ok(Self::Any),
            _ => items.into_iter().map(origin).collect::<Result<_, _>>().map(Self::List),
        }
    }
}

/// Browsers send scheme, host, and the port unless it is the scheme's default. Anything more would
/// never match.
fn origin(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be * or origins such as https://game.example or http://localhost:8080 or null, separated by commas";
    if text.eq_ignore_ascii_case(NULL) {
        return Ok(NULL.to_owned());
    }
    let (scheme, host) = text.split_once("://").ok_or(EXPECTED)?;
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let plain = |text: &str, also: &str| {
        !text.is_empty()
            && text.chars().all(|char| char.is_ascii_alphanumeric() || also.contains(char))
    };
    if !plain(scheme, "+-.") || !plain(host, "-._:[]") {
        return Err(EXPECTED);
    }
    let host = host.strip_suffix(default_port).unwrap_or(host);
    Ok(format!("{scheme}://{host}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_allows_every_page() {
        assert_eq!("*".parse(), Ok(AllowedOrigins::Any));
        assert!(AllowedOrigins::Any.allows("https://anywhere.example"));
    }

    #[test]
    fn a_list_allows_its_pages_and_no_other() {
        let list: AllowedOrigins =
            "https://Game.example:443, http://localhost:8080".parse().expect("a list");
        assert!(list.allows("https://game.example"));
        assert!(list.allows("http://localhost:8080"));
        for other in ["http://game.example", "https://game.example.evil.example", "null", ""] {
            assert!(!list.allows(other), "{other}");
        }
    }

    #[test]
    fn null_is_an_origin_of_a_list_but_may_send_no_credentials() {
        let list: AllowedOrigins = "https://game.example, NULL".parse().expect("a list");
        assert!(list.allows("null") && !list.allows_credentials("null"));
        assert!(list.allows_credentials("https://game.example"));
        assert!(!list.allows_credentials("https://other.example"));
        assert!(!AllowedOrigins::Any.allows_credentials("https://game.example"));
        assert!(!list.is_list_of_pages() && !AllowedOrigins::Any.is_list_of_pages());
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in ["", ",", "game.example", "https://", "https://game.example/", "*,https://a.b"]
        {
            assert!(text.parse::<AllowedOrigins>().is_err(), "{text}");
        }
    }
}
