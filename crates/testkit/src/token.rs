//! Tokens for tests, signed with each algorithm that the server accepts.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// A secret of 32 bytes.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// RSA keys take seconds to make: this one is in the repository. It guards nothing.
const RSA: &[u8] = include_bytes!("token/rsa.pk8");
const RSA_PEM: &str = include_str!("token/rsa.pem");

/// `SubjectPublicKeyInfo` of a P-256 key up to its point (RFC 5480).
const P256_DER: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
/// The same of an Ed25519 key (RFC 8410).
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Signs tokens.
#[derive(Debug)]
pub struct Signer {
    kid: Option<String>,
    key: PrivateKey,
}

#[derive(Debug)]
enum PrivateKey {
    Secret(Vec<u8>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// The unix second after this number of seconds.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now.cast_signed() + seconds
}

/// Claims that open these names for ten minutes.
pub fn opens(names: &[&str]) -> Value {
    json!({ "exp": in_seconds(600), "datastream": names })
}

/// A JWK set of these keys.
pub fn jwk_set<'a>(keys: impl IntoIterator<Item = &'a Signer>) -> String {
    json!({ "keys": keys.into_iter().map(Signer::jwk).collect::<Vec<_>>() }).to_string()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn new(key: PrivateKey) -> Self {
        Self { kid: None, key }
    }

    /// HS256 with this secret.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Self {
        Self::new(PrivateKey::Secret(secret.as_ref().to_vec()))
    }

    /// ES256 with a new key.
    pub fn es256() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random);
        Self::new(PrivateKey::Es256(pair.expect("a key")))
    }

    /// `EdDSA` with a new key.
    pub fn eddsa() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref());
        Self::new(PrivateKey::EdDsa(pair.expect("a key")))
    }

    /// RS256 with always the same key.
    pub fn rs256() -> Self {
        Self::new(PrivateKey::Rs256(RsaKeyPair::from_pkcs8(RSA).expect("a key")))
    }

    /// The same with a name.
    pub fn named(mut self, kid: &str) -> Self {
        self.kid = Some(kid.to_owned());
        self
    }

    /// The name of its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match &self.key {
            PrivateKey::Secret(_) => "HS256",
            PrivateKey::Es256(_) => "ES256",
            PrivateKey::EdDsa(_) => "EdDSA",
            PrivateKey::Rs256(_) => "RS256",
        }
    }

    /// The header of its tokens.
    pub fn header(&self) -> Value {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm() });
        if let Some(kid) = &self.kid {
            header["kid"] = kid.as_str().into();
        }
        header
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token that opens these names for ten minutes.
    pub fn opening(&self, names: &[&str]) -> String {
        self.token(&opens(names))
    }

    /// A token of any texts.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            PrivateKey::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            PrivateKey::Es256(pair) => pair.sign(&random, message).expect("signed").as_ref().into(),
            PrivateKey::EdDsa(pair) => pair.sign(message).as_ref().into(),
            PrivateKey::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// The public key as a JWK; of a secret, the secret.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            PrivateKey::Secret(secret) => json!({ "kty": "oct", "k": encode(secret) }),
            PrivateKey::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            PrivateKey::EdDsa(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) })
            }
            PrivateKey::Rs256(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": encode(public.n), "e": encode(public.e) })
            }
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = kid.as_str().into();
        }
        jwk
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let der = match &self.key {
            PrivateKey::Secret(_) => panic!("a secret has no public key"),
            PrivateKey::Rs256(_) => return RSA_PEM.to_owned(),
            PrivateKey::Es256(pair) => {
                let start = base64::engine::general_purpose::STANDARD.decode(P256_DER);
                [&start.expect("base64")[..], &pair.public_key().as_ref()[1..]].concat()
            }
            PrivateKey::EdDsa(pair) => [&ED25519_DER[..], pair.public_key().as_ref()].concat(),
        };
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }
}
