//! Who may listen: the values of the `--auth-…` options.

mod key_url;
pub(super) mod options;

use std::{fmt, path::PathBuf, time::Duration};

pub use key_url::KeyUrl;

/// The claim that names what a token opens, if no other is configured.
pub(super) const CLAIM: &str = "datastream";
/// How far the clocks of the issuer and of this server may differ, if not configured.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// The configuration of access control. Without it, every client may listen.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// The keys that verify tokens.
    pub keys: KeySource,
    /// The audience that a token must name. `None`: a token must name none.
    pub audience: Option<String>,
    /// The issuer that a token must name, if any.
    pub issuer: Option<String>,
    /// The claim with the games and types that a token opens.
    pub claim: String,
    /// The time by which tokens are valid longer, in whole seconds.
    pub leeway: Duration,
    /// The cookie that may hold a token.
    pub cookie: Option<String>,
    /// Whether `?token=` is read on `/ws` and `/sse` too.
    pub query: bool,
}

/// The source of the keys.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A shared secret, for HS256.
    Secret(TokenSecret),
    /// A file of public keys in PEM, or with a JWK set.
    File(PathBuf),
    /// The URL of a JWK set.
    Url(KeyUrl),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("a secret"),
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// A secret of at least 32 bytes. Prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// The bytes of the secret.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl AccessConfig {
    /// The defaults with the keys of a file.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self {
            keys: KeySource::File(path.into()),
            audience: None,
            issuer: None,
            claim: CLAIM.to_owned(),
            leeway: LEEWAY,
            cookie: None,
            query: false,
        }
    }
}
