//! Anybody may send any token, and a JWK set comes from another server: no bytes may fail either, and
//! no token that was not signed with a key of the set may be accepted.

#![no_main]

use std::sync::LazyLock;

use datastream::internals::tokens::Verifier;
use libfuzzer_sys::fuzz_target;

/// Keys of each type. Nobody has kept the private ones.
const SET: &str = r#"{"keys":[
    {"kty":"oct","kid":"s","k":"QGZbIVKX3kOCkOZcYnKlcP2kFW9xPbVYcLqLqXoYxAw"},
    {"kty":"EC","kid":"p","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","kid":"e","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

static KEYS: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::read(SET.as_bytes(), false).expect("keys"));

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 3 {
        // A token as it comes, and one whose parts are any bytes.
        0 => assert!(!KEYS.accepts(bytes), "forged"),
        1 => assert!(!KEYS.accepts(&token(bytes)), "forged"),
        _ => {
            if let Some(keys) = Verifier::read(bytes, kind & 4 == 0) {
                keys.accepts(&token(bytes));
            }
        }
    }
});

/// Header, claims and signature, split at zero bytes.
fn token(bytes: &[u8]) -> Vec<u8> {
    let mut parts = bytes.splitn(3, |byte| *byte == 0).map(encode);
    let mut next = || parts.next().unwrap_or_default();
    [next(), next(), next()].join(&b'.')
}

/// Base64 without padding (RFC 4648 section 5).
fn encode(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = Vec::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        let digits = (0..=chunk.len()).map(|at| ALPHABET[(word >> (18 - 6 * at)) as usize & 63]);
        text.extend(digits);
    }
    text
}
