//! One key: its material, the algorithm that follows from it, and its number.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use ring::digest;
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519},
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// RFC 7518 section 3.2: a key of the size of the hash output or larger.
const SECRET_BYTES_MIN: usize = 32;
/// RFC 7518 section 3.3: 2048 bits or larger.
const RSA_BYTES_MIN: usize = 256;
/// ring verifies up to 8192 bits.
const RSA_BYTES_MAX: usize = 1024;

/// Identifies a key by its material: the same key has the same number in each set, and after it
/// was withdrawn and added again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyNumber(pub(super) u32);

impl KeyNumber {
    /// Of no key.
    pub(super) const NONE: Self = Self(0);
}

/// A key that verifies signatures.
#[derive(Debug)]
pub(super) struct Key {
    /// The name of the key in its set.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) number: KeyNumber,
    pub(super) decoding: DecodingKey,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyProblem {
    #[error("it is no RSA key, no P-256 key and no Ed25519 key")]
    Type,
    #[error("an RSA key must have 2048 to 8192 bits")]
    RsaSize,
    #[error("a secret must have at least 32 bytes")]
    SecretSize,
    #[error("a secret is accepted from a file only")]
    PublishedSecret,
    #[error("its use is not the verification of signatures")]
    Use,
    #[error("its alg is not the one of its type (RS256, ES256, EdDSA, HS256)")]
    Algorithm,
    #[error("it is damaged")]
    Damaged,
}

/// The material of a key, checked for its length only: ring checks the rest at each verification.
enum Material {
    Secret(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_) => Algorithm::HS256,
            Self::Rsa { .. } => Algorithm::RS256,
            Self::P256(_) => Algorithm::ES256,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    fn check(&self) -> Result<(), KeyProblem> {
        match self {
            Self::Secret(secret) if secret.len() < SECRET_BYTES_MIN => Err(KeyProblem::SecretSize),
            Self::Rsa { n, .. } if !(RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&n.len()) => {
                Err(KeyProblem::RsaSize)
            }
            Self::Rsa { e, .. } if e.is_empty() => Err(KeyProblem::Damaged),
            Self::P256(point) if point.len() != 65 || point[0] != 4 => Err(KeyProblem::Damaged),
            Self::Ed25519(point) if point.len() != 32 => Err(KeyProblem::Damaged),
            _ => Ok(()),
        }
    }

    fn number(&self) -> KeyNumber {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(format!("{:?}", self.algorithm()).as_bytes());
        match self {
            Self::Rsa { n, e } => {
                hash.update(n);
                hash.update(e);
            }
            Self::Secret(bytes) | Self::P256(bytes) | Self::Ed25519(bytes) => hash.update(bytes),
        }
        let hash = hash.finish();
        let start = hash.as_ref().first_chunk().copied().unwrap_or_default();
        KeyNumber(u32::from_be_bytes(start).max(1))
    }

    fn decoding(&self) -> Result<DecodingKey, KeyProblem> {
        Ok(match self {
            Self::Secret(secret) => {
                DecodingKey::from_secret(secret).map_err(|_| KeyProblem::SecretSize)?
            }
            Self::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
            Self::P256(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(point) => DecodingKey::from_ed_der(point),
        })
    }

    fn key(self, kid: Option<String>) -> Result<Key, KeyProblem> {
        self.check()?;
        let (algorithm, number) = (self.algorithm(), self.number());
        Ok(Key { kid, algorithm, number, decoding: self.decoding()? })
    }
}

impl Key {
    /// A shared secret.
    pub(super) fn from_secret(secret: &[u8]) -> Result<Self, KeyProblem> {
        Material::Secret(secret.to_vec()).key(None)
    }

    /// A public key in DER (RFC 5280 section 4.1, `SubjectPublicKeyInfo`).
    pub(super) fn from_der(der: &[u8]) -> Result<Self, KeyProblem> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyProblem::Damaged)?;
        Self::from_info(&info)
    }

    /// The public key of a certificate.
    pub(super) fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyProblem> {
        let oid = &info.algorithm.algorithm;
        if *oid == OID_SIG_ED25519 {
            return Material::Ed25519(info.subject_public_key.data.to_vec()).key(None);
        }
        if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let parameters = info.algorithm.parameters.as_ref();
            let curve = parameters.and_then(|parameters| parameters.as_oid().ok());
            if curve != Some(OID_EC_P256) {
                return Err(KeyProblem::Type);
            }
            return Material::P256(info.subject_public_key.data.to_vec()).key(None);
        }
        match info.parsed().map_err(|_| KeyProblem::Damaged)? {
            PublicKey::RSA(rsa) => rsa_material(rsa.modulus, rsa.exponent).key(None),
            _ => Err(KeyProblem::Type),
        }
    }

    /// A key of a JWK set (RFC 7517).
    pub(super) fn from_jwk(jwk: &Jwk, accepts_secrets: bool) -> Result<Self, KeyProblem> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyProblem::Damaged);
        let material = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => rsa_material(&decode(&rsa.n)?, &decode(&rsa.e)?),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                Material::P256(point(&decode(&ec.x)?, &decode(&ec.y)?)?)
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                Material::Ed25519(decode(&pair.x)?)
            }
            AlgorithmParameters::OctetKey(_) if !accepts_secrets => {
                return Err(KeyProblem::PublishedSecret);
            }
            AlgorithmParameters::OctetKey(secret) => Material::Secret(decode(&secret.value)?),
            _ => return Err(KeyProblem::Type),
        };
        check_purpose(&jwk.common, material.algorithm())?;
        material.key(jwk.common.key_id.clone())
    }
}

/// Without the zero bytes that DER puts before a number whose first bit is set.
fn rsa_material(n: &[u8], e: &[u8]) -> Material {
    let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    Material::Rsa { n: trim(n), e: trim(e) }
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn point(x: &[u8], y: &[u8]) -> Result<Vec<u8>, KeyProblem> {
    if x.len() != 32 || y.len() != 32 {
        return Err(KeyProblem::Damaged);
    }
    Ok([&[4], x, y].concat())
}

/// RFC 7517 sections 4.2 to 4.4. A key for encryption, or for another algorithm of the same type,
/// must not verify a signature here.
fn check_purpose(common: &CommonParameters, algorithm: Algorithm) -> Result<(), KeyProblem> {
    if common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return Err(KeyProblem::Use);
    }
    let verifies = |all: &Vec<KeyOperations>| all.contains(&KeyOperations::Verify);
    if !common.key_operations.as_ref().is_none_or(verifies) {
        return Err(KeyProblem::Use);
    }
    let named = common.key_algorithm.map(|named| named.to_string());
    if named.is_some_and(|named| named != format!("{algorithm:?}")) {
        return Err(KeyProblem::Algorithm);
    }
    Ok(())
}
