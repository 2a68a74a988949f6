//! The name of this server.

use std::{fmt, str::FromStr};

/// PostgreSQL cuts `application_name` after 63 bytes; the use of a connection must fit, too.
const BYTES_MAX: usize = 40;

/// The name of this server in logs, in `application_name` and on the internal `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// The host name, without what a name may not have.
    pub fn of_host() -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let host: String = host.chars().filter(|&char| is_allowed(char)).take(BYTES_MAX).collect();
        Self(if host.is_empty() { "unnamed".to_owned() } else { host })
    }
}

fn is_allowed(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._:".contains(char)
}

impl FromStr for NodeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = !text.is_empty() && text.len() <= BYTES_MAX && text.chars().all(is_allowed);
        is_name
            .then(|| Self(text.to_owned()))
            .ok_or("must have 1 to 40 letters, digits, hyphens, dots, colons or underscores")
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_of_plain_characters() {
        for name in ["edge-1", "edge.example:3000", "a_b"] {
            assert_eq!(name.parse::<NodeName>().expect(name).to_string(), name);
        }
        for refused in ["", "two words", "a\nb", "é", &"x".repeat(41)] {
            assert!(refused.parse::<NodeName>().is_err(), "{refused}");
        }
    }

    #[test]
    fn the_default_is_a_name() {
        let host = NodeName::of_host().to_string();
        assert!(host.parse::<NodeName>().is_ok(), "{host}");
    }
}
