//! How a WebTransport client trusts a server by the hash of its certificate. The load and the soak
//! use it, too.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use wtransport::{
    ClientConfig,
    config::{ClientConfigBuilder, states::WantsTransportConfigClient},
    tls::Sha256Digest,
};

/// What `GET /wt/certificate` answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Certificate {
    pub algorithm: String,
    pub value: Option<String>,
    pub next: Option<String>,
    pub not_after: String,
    pub url: String,
}

impl Certificate {
    /// The hash of the certificate that is shown now.
    pub fn hash(&self) -> Option<Sha256Digest> {
        digest(self.value.as_deref()?)
    }
}

/// A hash from its text.
pub fn digest(base64: &str) -> Option<Sha256Digest> {
    let hash: [u8; 32] = STANDARD.decode(base64).ok()?.try_into().ok()?;
    Some(Sha256Digest::new(hash))
}

/// A client on the loopback that trusts these alone.
pub fn trusting(
    hashes: impl IntoIterator<Item = Sha256Digest>,
) -> ClientConfigBuilder<WantsTransportConfigClient> {
    ClientConfig::builder()
        .with_bind_address(([127, 0, 0, 1], 0).into())
        .with_server_certificate_hashes(hashes)
}
