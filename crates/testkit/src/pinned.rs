//! WebTransport clients that trust a server by the hash of its certificate. Load and soak use it, too.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use wtransport::{
    ClientConfig,
    config::{ClientConfigBuilder, states::WantsTransportConfigClient},
    tls::Sha256Digest,
};

/// The response of `GET /wt/certificate`.
#[derive(Clone, Debug, Deserialize)]
pub struct Certificate {
    pub algorithm: String,
    pub value: Option<String>,
    pub next: Option<String>,
    pub not_after: String,
    pub url: String,
}

impl Certificate {
    /// The hash of the current certificate.
    pub fn hash(&self) -> Option<Sha256Digest> {
        digest(self.value.as_deref()?)
    }
}

/// Decodes a hash.
pub fn digest(base64: &str) -> Option<Sha256Digest> {
    let hash: [u8; 32] = STANDARD.decode(base64).ok()?.try_into().ok()?;
    Some(Sha256Digest::new(hash))
}

/// A client on the loopback interface that trusts only certificates with these hashes.
pub fn trusting(
    hashes: impl IntoIterator<Item = Sha256Digest>,
) -> ClientConfigBuilder<WantsTransportConfigClient> {
    ClientConfig::builder()
        .with_bind_address(([127, 0, 0, 1], 0).into())
        .with_server_certificate_hashes(hashes)
}
