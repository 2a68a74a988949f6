//! A token as it came, and what it says before and after its signature is verified.

use std::fmt;

use jsonwebtoken::{Algorithm, decode_header};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::Refusal;

/// The most bytes of a token: half of a request's head, which has to hold it.
const BYTES_MAX: usize = 8 * 1024;

/// A token that nothing has verified. Prints as stars: a reader of a log could use it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Vec<u8>);

impl Token {
    /// The bytes of a header or of a parameter.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The algorithm and the key that the token names. Nothing else of the header is used: `jku`,
    /// `jwk` and `x5u` would let the client choose the key (RFC 8725 section 3.10).
    pub(super) fn header(&self) -> Result<TokenHeader, Refusal> {
        if self.0.len() > BYTES_MAX {
            return Err(Refusal::Unreadable);
        }
        let header = decode_header(&self.0).map_err(|_| Refusal::Unreadable)?;
        Ok(TokenHeader { algorithm: header.alg, kid: header.kid })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What the search for the key of a token needs.
#[derive(Debug)]
pub(super) struct TokenHeader {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

/// The claims of a token, each once. With two of a name, two programs could read different ones
/// (RFC 7519 section 4).
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose names are all different")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Claims, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(de::Error::custom("a repeated claim"));
            }
        }
        Ok(Claims(claims))
    }
}
