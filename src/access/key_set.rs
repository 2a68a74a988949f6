//! A set of keys, read from PEM or from a JWK set, and the search for the key of a token.

use std::{collections::BTreeSet, sync::Arc};

use jsonwebtoken::{Algorithm, jwk::Jwk};
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::key::{Key, KeyNumber, KeyProblem};

/// The most bytes of a document with keys. The sets of large providers have some 10 KB.
pub(super) const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most keys that are tried for a token that names none. Each costs up to 60 µs.
const TRIED_MAX: usize = 8;

/// The source of a document. A file is as private as the configuration; a URL is public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    Url,
}

/// Why a document has no keys to use.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("more than 256 KiB")]
    TooLarge,
    #[error("it is no JWK set: {0}")]
    NotJwkSet(&'static str),
    #[error("it has neither a public key in PEM nor a JWK set")]
    Neither,
    #[error("it has a private key. Give this server the public key only.")]
    PrivateKey,
    #[error("no usable key: {0}")]
    NoneUsable(String),
}

/// The keys in use; never empty.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Arc<Key>>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// One shared secret.
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self, KeyProblem> {
        Ok(Self(vec![Arc::new(Key::from_secret(secret)?)]))
    }

    /// Reads a document. Keys that cannot be used are skipped, as RFC 7517 section 5 asks for.
    pub(super) fn parse(document: &[u8], origin: Origin) -> Result<Self, KeySetError> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let is_json = document.trim_ascii_start().starts_with(b"{");
        let keys = match origin {
            Origin::File if !is_json => from_pem(document)?,
            Origin::File | Origin::Url => from_jwk_set(document, origin)?,
        };
        Self::usable(keys)
    }

    fn usable(keys: Vec<Result<Key, KeyProblem>>) -> Result<Self, KeySetError> {
        let (mut usable, mut problems) = (Vec::new(), BTreeSet::new());
        for key in keys {
            match key {
                Ok(key) => usable.push(Arc::new(key)),
                Err(problem) => drop(problems.insert(problem.to_string())),
            }
        }
        if !usable.is_empty() {
            return Ok(Self(usable));
        }
        let problems: Vec<_> = problems.into_iter().collect();
        let problems = if problems.is_empty() { "it is empty".into() } else { problems.join("; ") };
        Err(KeySetError::NoneUsable(problems))
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = KeyNumber> + '_ {
        self.0.iter().map(|key| key.number)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key has this name.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys that may have signed a token. One that names its key was signed by a key of that
    /// name, or by one without a name, as those from PEM are.
    pub(super) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<Arc<Key>> {
        // An unknown name is that of no key: `name` is `None`, as is `kid` of a key from PEM.
        let name = kid.filter(|kid| self.knows(kid));
        let keys = self.0.iter().filter(|key| key.algorithm == algorithm);
        let fitting = keys.filter(|key| kid.is_none() || key.kid.as_deref() == name);
        fitting.take(TRIED_MAX).cloned().collect()
    }
}

fn from_jwk_set(
    document: &[u8],
    origin: Origin,
) -> Result<Vec<Result<Key, KeyProblem>>, KeySetError> {
    // The parser's message could quote a secret of the document.
    let document: Document = serde_json::from_slice(document)
        .map_err(|_| KeySetError::NotJwkSet("not a JSON object with an array `keys`"))?;
    let key = |value: Value| {
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| KeyProblem::Damaged)?;
        Key::from_jwk(&jwk, origin == Origin::File)
    };
    Ok(document.keys.into_iter().map(key).collect())
}

fn from_pem(document: &[u8]) -> Result<Vec<Result<Key, KeyProblem>>, KeySetError> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(document) {
        match section.map_err(|_| KeySetError::Neither)? {
            (SectionKind::PublicKey, der) => keys.push(Key::from_der(&der)),
            (SectionKind::Certificate, der) => keys.push(from_certificate(&der)),
            (
                SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey,
                _,
            ) => return Err(KeySetError::PrivateKey),
            _ => {}
        }
    }
    if keys.is_empty() { Err(KeySetError::Neither) } else { Ok(keys) }
}

fn from_certificate(der: &[u8]) -> Result<Key, KeyProblem> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| KeyProblem::Damaged)?;
    Key::from_info(certificate.public_key())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::Signer;

    use super::*;

    fn set(keys: &[Value], origin: Origin) -> Result<KeySet, String> {
        let document = json!({ "keys": keys }).to_string();
        KeySet::parse(document.as_bytes(), origin).map_err(|error| error.to_string())
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn the_algorithm_follows_from_the_type_of_the_key() {
        for (signer, algorithm) in [
            (Signer::rs256(), Algorithm::RS256),
            (Signer::es256(), Algorithm::ES256),
            (Signer::eddsa(), Algorithm::EdDSA),
        ] {
            let from_jwk = set(&[signer.jwk()], Origin::Url).expect("a set");
            let from_pem = KeySet::parse(signer.pem().as_bytes(), Origin::File).expect("a set");
            for set in [&from_jwk, &from_pem] {
                assert_eq!(set.0[0].algorithm, algorithm);
                assert!(set.candidates(Algorithm::HS256, None).is_empty());
            }
            assert!(from_jwk.numbers().eq(from_pem.numbers()), "the same key in both forms");
        }
    }

    #[test]
    fn a_key_for_another_purpose_is_skipped() {
        let (ec, rsa) = (Signer::es256().jwk(), Signer::rs256().jwk());
        let secret = Signer::hs256("a secret of at least 32 bytes....").jwk();
        for (jwk, why) in [
            (with(ec.clone(), "use", "enc".into()), "use"),
            (with(ec.clone(), "key_ops", json!(["sign"])), "use"),
            (with(ec.clone(), "alg", "ES384".into()), "alg"),
            (with(rsa.clone(), "alg", "PS256".into()), "alg"),
            (with(rsa.clone(), "alg", "RSA-OAEP".into()), "alg"),
            (with(rsa.clone(), "n", "AQAB".into()), "2048"),
            (with(rsa.clone(), "n", "*".into()), "damaged"),
            (with(ec.clone(), "crv", "P-384".into()), "P-256"),
            (with(ec.clone(), "x", "AQAB".into()), "damaged"),
            (json!({ "kty": "OKP", "crv": "X25519", "x": "AQAB" }), ""),
            (json!(7), "damaged"),
            (secret.clone(), "file only"),
        ] {
            let error = set(std::slice::from_ref(&jwk), Origin::Url).expect_err("unusable");
            assert!(error.starts_with("no usable key: ") && error.contains(why), "{error}: {jwk}");
            let usable = set(&[jwk, ec.clone()], Origin::Url).expect("the other key");
            assert_eq!(usable.len(), 1);
        }
        let verify = with(with(ec, "use", "sig".into()), "key_ops", json!(["verify"]));
        assert!(set(&[verify, with(rsa, "alg", "RS256".into())], Origin::Url).is_ok());
        assert!(set(&[secret], Origin::File).is_ok());
        let short = Signer::hs256("too short").jwk();
        assert!(set(&[short], Origin::File).is_err_and(|error| error.contains("32 bytes")));
    }

    #[test]
    fn a_token_is_tried_with_the_keys_of_its_name_and_else_with_at_most_8() {
        let jwks: Vec<_> = (0..20).map(|_| Signer::es256().jwk()).collect();
        let mut all: Vec<_> = jwks[..18].to_vec();
        all.push(with(jwks[18].clone(), "kid", "a".into()));
        all.push(with(jwks[19].clone(), "kid", "b".into()));
        let set = set(&all, Origin::Url).expect("a set");
        assert_eq!(set.candidates(Algorithm::ES256, None).len(), TRIED_MAX);
        let named = set.candidates(Algorithm::ES256, Some("b"));
        assert_eq!((named.len(), named[0].kid.as_deref()), (1, Some("b")));
        let unnamed = set.candidates(Algorithm::ES256, Some("unknown"));
        assert!(unnamed.len() == TRIED_MAX && unnamed.iter().all(|key| key.kid.is_none()));
        assert!(set.candidates(Algorithm::RS256, Some("b")).is_empty());
    }

    #[test]
    fn a_document_without_keys_says_why_and_quotes_nothing() {
        for (document, why) in [
            ("", "neither"),
            ("hush", "neither"),
            ("{\"keys\":7}", "no JWK set"),
            ("{\"keys\":[]}", "it is empty"),
            ("-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----\n", "damaged"),
            ("-----BEGIN EC PRIVATE KEY-----\naHVzaA==\n-----END EC PRIVATE KEY-----\n", "private"),
        ] {
            let error = KeySet::parse(document.as_bytes(), Origin::File).expect_err(document);
            let error = error.to_string();
            assert!(error.contains(why) && !error.contains("hush"), "{error}");
        }
        let large = " ".repeat(DOCUMENT_BYTES_MAX + 1);
        assert!(KeySet::parse(large.as_bytes(), Origin::Url).is_err());
    }
}
