//! Who may listen: keys, tokens, permissions, and how long each lasts. Off by default.
//!
//! A token is a JWT (RFC 7519). `http` finds it in a request and turns a [`Refusal`] into a
//! response; `transport` ends the streams whose [`Lease`] has lapsed. The algorithm follows from
//! the type of the key, never from the token (RFC 8725 section 3.1).

mod fetch;
mod key;
mod key_set;
mod keys;
mod lease;
mod permission;
mod ring_provider;
mod sources;
mod token;
mod verifier;

use crate::ops::telemetry::metrics::TokenRefused;

pub(crate) use self::keys::UnusableKeys;
#[doc(hidden)]
pub use self::verifier::fuzz;
pub(crate) use self::{
    lease::{CurrentKeys, Lapse, Lease},
    permission::Permission,
    token::Token,
    verifier::TokenVerifier,
};

/// Why a request is refused. The text is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request has no token.
    #[error("a token is needed")]
    Missing,
    /// Not a JWT, too long, an unknown algorithm, repeated claims, or an unknown `crit`.
    #[error("the token cannot be read")]
    Unreadable,
    /// None of the keys in use made the signature.
    #[error("the token's signature is of no known key")]
    UnknownKey,
    /// `exp` is absent or not a number.
    #[error("the token has no exp")]
    NoExpiry,
    /// `exp` and the leeway have passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` names others, or is absent.
    #[error("the token is for another audience")]
    Audience,
    /// `iss` names another, or is absent.
    #[error("the token is of another issuer")]
    Issuer,
    /// The token is valid, but does not name all that is asked for.
    #[error("the token does not allow this selection")]
    NotAllowed,
    /// The keys have not been fetched since the start.
    #[error("the keys for tokens could not be fetched yet")]
    NoKeys,
}

impl Refusal {
    /// The label of `tokens_refused_total`.
    pub(crate) fn label(self) -> TokenRefused {
        match self {
            Self::Missing => TokenRefused::missing,
            Self::Unreadable => TokenRefused::unreadable,
            Self::UnknownKey => TokenRefused::unknown_key,
            Self::NoExpiry => TokenRefused::no_exp,
            Self::Expired => TokenRefused::expired,
            Self::NotYetValid => TokenRefused::not_yet_valid,
            Self::Audience => TokenRefused::audience,
            Self::Issuer => TokenRefused::issuer,
            Self::NotAllowed => TokenRefused::not_allowed,
            Self::NoKeys => TokenRefused::no_keys,
        }
    }
}
