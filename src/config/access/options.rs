//! The `--auth-…` options, and what they exclude.

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};

use super::{AccessConfig, CLAIM, KeySource, LEEWAY, TokenSecret};
use crate::config::{AllowedOrigins, ConfigError, values};

/// The least bytes of a secret: RFC 7518 section 3.2.
const SECRET_BYTES_MIN: usize = 32;

const SECRET: (&str, &str) = ("auth-secret", "DATASTREAM_AUTH_SECRET");
const KEYS: (&str, &str) = ("auth-keys", "DATASTREAM_AUTH_KEYS");
const COOKIE: (&str, &str) = ("auth-cookie", "DATASTREAM_AUTH_COOKIE");

/// Who may listen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// Require a token (JWT) signed with this secret (HS256), at least 32 bytes. Default: every
    /// client may listen. Other users of the machine can read a flag: set the variable instead.
    #[arg(long, env = "DATASTREAM_AUTH_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub auth_secret: Option<Hidden>,

    /// Require a token signed with one of these keys: a file of public keys (PEM or JWK set), or
    /// the https URL of a JWK set. They are read again when they change.
    #[arg(long, env = "DATASTREAM_AUTH_KEYS", value_name = "FILE|URL")]
    pub auth_keys: Option<String>,

    /// The audience that `aud` of a token must name. Default: a token with `aud` is refused.
    #[arg(long, env = "DATASTREAM_AUTH_AUDIENCE", value_name = "AUDIENCE")]
    pub auth_audience: Option<String>,

    /// The issuer that `iss` of a token must name. Default: any.
    #[arg(long, env = "DATASTREAM_AUTH_ISSUER", value_name = "ISSUER")]
    pub auth_issuer: Option<String>,

    /// The claim of a token with what it opens: *, game:SLUG, type:TYPE. Default: datastream.
    #[arg(long, env = "DATASTREAM_AUTH_CLAIM", value_name = "CLAIM")]
    pub auth_claim: Option<String>,

    /// How far the clocks of the issuer and of this server may differ, 0s to 5m. Lower: tokens of
    /// a fast clock are refused. Higher: expired tokens work longer. Default: 30s.
    #[arg(long, env = "DATASTREAM_AUTH_LEEWAY", value_name = "DURATION")]
    #[arg(value_parser = values::leeway)]
    pub auth_leeway: Option<Duration>,

    /// A cookie that may hold the token. Needs a list of origins in --allowed-origins.
    #[arg(long, env = "DATASTREAM_AUTH_COOKIE", value_name = "NAME")]
    pub auth_cookie: Option<String>,

    /// Accept ?token= on /ws and /sse too. Proxies write it to their logs.
    #[arg(long, env = "DATASTREAM_AUTH_QUERY")]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub auth_query: bool,
}

/// A text that prints as stars.
#[derive(Clone)]
pub struct Hidden(String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl AccessOptions {
    /// The configuration, or `None` if tokens are off. A secret that is set but empty is an error:
    /// a missing value must not open the feed.
    pub fn resolve(self, origins: &AllowedOrigins) -> Result<Option<AccessConfig>, ConfigError> {
        let Some(keys) = self.keys()? else { return self.off().map(|()| None) };
        if let Some(cookie) = &self.auth_cookie {
            check_cookie(cookie, origins)?;
        }
        Ok(Some(AccessConfig {
            keys,
            audience: self.auth_audience,
            issuer: self.auth_issuer,
            claim: self.auth_claim.unwrap_or_else(|| CLAIM.to_owned()),
            leeway: self.auth_leeway.unwrap_or(LEEWAY),
            cookie: self.auth_cookie,
            query: self.auth_query,
        }))
    }

    fn keys(&self) -> Result<Option<KeySource>, ConfigError> {
        match (&self.auth_secret, &self.auth_keys) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(ConfigError::Exclusive {
                first: SECRET.0,
                first_variable: SECRET.1,
                second: KEYS.0,
                second_variable: KEYS.1,
            }),
            (Some(Hidden(secret)), None) => secret_source(secret).map(Some),
            (None, Some(keys)) => key_source(keys).map(Some),
        }
    }

    /// An option without keys would have no effect, and the feed would be open.
    fn off(&self) -> Result<(), ConfigError> {
        let given = [
            (self.auth_audience.is_some(), ("auth-audience", "DATASTREAM_AUTH_AUDIENCE")),
            (self.auth_issuer.is_some(), ("auth-issuer", "DATASTREAM_AUTH_ISSUER")),
            (self.auth_claim.is_some(), ("auth-claim", "DATASTREAM_AUTH_CLAIM")),
            (self.auth_leeway.is_some(), ("auth-leeway", "DATASTREAM_AUTH_LEEWAY")),
            (self.auth_cookie.is_some(), COOKIE),
            (self.auth_query, ("auth-query", "DATASTREAM_AUTH_QUERY")),
        ];
        match given.into_iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, option)) => Err(unusable(
                option,
                "needs keys: without them every client may listen. \
                 Set --auth-secret (DATASTREAM_AUTH_SECRET) or --auth-keys (DATASTREAM_AUTH_KEYS).",
            )),
        }
    }
}

fn secret_source(secret: &str) -> Result<KeySource, ConfigError> {
    match secret.len() {
        0 => Err(unusable(
            SECRET,
            "is empty. Set a secret of at least 32 bytes, or remove the variable \
             to let every client listen.",
        )),
        1..SECRET_BYTES_MIN => {
            Err(unusable(SECRET, "must have at least 32 bytes. Make one: openssl rand -base64 48"))
        }
        _ => Ok(KeySource::Secret(TokenSecret(secret.to_owned()))),
    }
}

fn key_source(keys: &str) -> Result<KeySource, ConfigError> {
    if keys.trim().is_empty() {
        return Err(unusable(
            KEYS,
            "is empty. Set a file or a URL with keys, or remove the variable \
             to let every client listen.",
        ));
    }
    if !keys.contains("://") {
        return Ok(KeySource::File(keys.into()));
    }
    keys.parse().map(KeySource::Url).map_err(|expected| unusable(KEYS, expected))
}

/// A cookie comes with the requests of every page. Only the origin tells which page sent it.
fn check_cookie(cookie: &str, origins: &AllowedOrigins) -> Result<(), ConfigError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !cookie.bytes().all(is_token) {
        return Err(unusable(COOKIE, "must be the name of a cookie, such as datastream_token"));
    }
    if origins.is_list_of_pages() {
        return Ok(());
    }
    Err(unusable(
        COOKIE,
        "needs a list of origins: with * or null any page could use the cookie. \
         Name your pages in --allowed-origins (DATASTREAM_ALLOWED_ORIGINS).",
    ))
}

fn unusable((flag, variable): (&'static str, &'static str), why: &'static str) -> ConfigError {
    ConfigError::Unusable { flag, variable, why }
}
