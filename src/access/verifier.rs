//! Verifies tokens: signature, times, audience, issuer, in this order, and then reads their claim.

use std::{sync::Arc, thread, time::Duration};

use jsonwebtoken::{
    Algorithm, Validation, decode,
    errors::{Error, ErrorKind},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    Refusal,
    key::{Key, KeyNumber},
    keys::{Keys, UnusableKeys},
    lease::{CurrentKeys, Lease, unix_seconds},
    permission::Permission,
    ring_provider,
    token::{Claims, Token, TokenHeader},
};
use crate::{
    config::AccessConfig,
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
};

/// Verifies tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TokenVerifier(Arc<VerifierState>);

#[derive(Debug)]
struct VerifierState {
    keys: Keys,
    rules: Arc<Rules>,
    /// How many signatures of public keys are verified at once. The runtime's workers also run the
    /// capture: a flood of tokens in their queues would delay rounds by 54 µs each.
    turns: Arc<Semaphore>,
}

/// The demands on every token.
#[derive(Debug)]
struct Rules {
    validations: [Validation; 4],
    claim: String,
    leeway: u64,
}

impl TokenVerifier {
    /// Reads the keys, or begins to fetch them. Must run inside a tokio runtime.
    pub(crate) fn start(
        config: &AccessConfig,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, UnusableKeys> {
        Ok(Self::new(Keys::start(config, metrics, shutdown)?, config))
    }

    fn new(keys: Keys, config: &AccessConfig) -> Self {
        ring_provider::install();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        Self(Arc::new(VerifierState { keys, rules: Arc::new(Rules::new(config)), turns }))
    }

    /// The keys in use, for checks of leases.
    pub(crate) fn current_keys(&self) -> &CurrentKeys {
        self.0.keys.current()
    }

    /// Whether the keys were read since the start.
    pub(crate) fn has_keys(&self) -> bool {
        self.0.keys.set().is_some()
    }

    /// How long ago the keys were last compared with their source.
    pub(crate) fn keys_age(&self) -> Duration {
        self.0.keys.age()
    }

    /// What a token opens.
    pub(crate) async fn verify(&self, token: Token) -> Result<Permission, Refusal> {
        let header = token.header()?;
        let keys = self.candidates(&header).await?;
        match header.algorithm {
            // 1.5 µs: less than a move to another thread.
            Algorithm::HS256 => self.0.rules.verify(&token, &keys),
            _ => self.verify_apart(token, keys).await,
        }
    }

    /// The keys that may have signed the token. A token that names an unknown key may be signed by
    /// a new one: its source is asked again.
    async fn candidates(&self, header: &TokenHeader) -> Result<Vec<Arc<Key>>, Refusal> {
        let find = || {
            let set = self.0.keys.set().ok_or(Refusal::NoKeys)?;
            let kid = header.kid.as_deref();
            let is_known = kid.is_none_or(|kid| set.knows(kid));
            Ok::<_, Refusal>((set.candidates(header.algorithm, kid), is_known))
        };
        let (found, is_known) = find()?;
        if !found.is_empty() || is_known {
            return Ok(found);
        }
        self.0.keys.look_again().await;
        Ok(find()?.0)
    }

    async fn verify_apart(&self, token: Token, keys: Vec<Arc<Key>>) -> Result<Permission, Refusal> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0.turns).acquire_owned().await;
        let rules = Arc::clone(&self.0.rules);
        let verified = spawn_blocking(move || {
            let _turn = turn;
            rules.verify(&token, &keys)
        });
        // A defect; the panic hook has logged it.
        verified.await.unwrap_or(Err(Refusal::Unreadable))
    }
}

impl Rules {
    fn new(config: &AccessConfig) -> Self {
        let leeway = config.leeway.as_secs();
        let validation = |algorithm| {
            let mut validation = Validation::new(algorithm);
            validation.leeway = leeway;
            validation.validate_nbf = true;
            // The library accepts a token without the claim that is configured.
            let mut required = vec!["exp"];
            if let Some(audience) = &config.audience {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            if let Some(issuer) = &config.issuer {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            validation.set_required_spec_claims(&required);
            validation
        };
        let validations = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
            .map(validation);
        Self { validations, claim: config.claim.clone(), leeway }
    }

    fn verify(&self, token: &Token, keys: &[Arc<Key>]) -> Result<Permission, Refusal> {
        for key in keys {
            let pinned = |rules: &&Validation| rules.algorithms.contains(&key.algorithm);
            let Some(rules) = self.validations.iter().find(pinned) else { continue };
            match decode::<Claims>(token.bytes(), &key.decoding, rules) {
                Ok(token) => return self.permission(&token.claims, key.number),
                Err(error) if is_of_another_key(&error) => {}
                Err(error) => return Err(refusal(&error)),
            }
        }
        Err(Refusal::UnknownKey)
    }

    fn permission(&self, claims: &Claims, key: KeyNumber) -> Result<Permission, Refusal> {
        let exp = claims.get("exp").and_then(|exp| exp.as_f64()).ok_or(Refusal::NoExpiry)?;
        // The cast saturates.
        let until = (exp.ceil() as u64).saturating_add(self.leeway);
        // The library accepts a token in its last second, in which its stream would end at once.
        if until <= unix_seconds() {
            return Err(Refusal::Expired);
        }
        Ok(Permission::from_claim(claims.get(&self.claim), Lease::new(until, key)))
    }
}

fn is_of_another_key(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature)
}

fn refusal(error: &Error) -> Refusal {
    let of_claim = |claim: &str| match claim {
        "exp" => Refusal::NoExpiry,
        "aud" => Refusal::Audience,
        "iss" => Refusal::Issuer,
        _ => Refusal::Unreadable,
    };
    match error.kind() {
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            of_claim(claim)
        }
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        _ => Refusal::Unreadable,
    }
}

/// For fuzz targets and benchmarks.
pub mod fuzz {
    use super::*;
    use crate::access::key_set::{KeySet, Origin};

    /// Keys, and the rules for tokens by default.
    #[derive(Debug)]
    pub struct Verifier {
        rules: Rules,
        set: KeySet,
    }

    impl Verifier {
        /// Reads keys from a file's content, or from that of a URL; `None` if none is usable.
        pub fn read(document: &[u8], from_url: bool) -> Option<Self> {
            ring_provider::install();
            let origin = if from_url { Origin::Url } else { Origin::File };
            let set = KeySet::parse(document, origin).ok()?;
            Some(Self { rules: Rules::new(&AccessConfig::of_file("/nowhere")), set })
        }

        /// Whether the token is valid.
        pub fn accepts(&self, token: &[u8]) -> bool {
            let token = Token::new(token);
            let Ok(header) = token.header() else { return false };
            let keys = self.set.candidates(header.algorithm, header.kid.as_deref());
            self.rules.verify(&token, &keys).is_ok()
        }
    }
}
