//! A certificate chain with its private key.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use wtransport::tls::{Certificate, WEBTRANSPORT_ALPN};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::CertificateError;

/// The only protocol of the HTTP port.
const HTTP_ALPN: &[u8] = b"http/1.1";
/// The longest validity with which browsers accept a certificate by its hash.
const PINNED_DAYS_MAX: i64 = 14;

/// A usable pair.
#[derive(Debug)]
pub(in crate::transport) struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    hash: [u8; 32],
    not_after: DateTime<Utc>,
    pinnable: bool,
}

impl Pair {
    /// Checks that the key matches the certificate.
    pub(in crate::transport) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let unusable = |error: String| CertificateError::Unusable(error);
        let first = chain.first().ok_or_else(|| unusable("the chain is empty".to_owned()))?;
        let (_, parsed) =
            X509Certificate::from_der(first).map_err(|error| unusable(error.to_string()))?;
        let own = Certificate::from_der(first.to_vec());
        let own = own.map_err(|error| unusable(error.to_string()))?;
        let (hash, not_after, pinnable) =
            (*own.hash().as_ref(), to_utc(&parsed.validity().not_after), pinnable(&parsed));
        let pair = Self { chain, key, hash, not_after, pinnable };
        pair.http_tls()?;
        Ok(pair)
    }

    /// SHA-256 of the leaf certificate.
    pub(in crate::transport) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    pub(in crate::transport) fn not_after(&self) -> DateTime<Utc> {
        self.not_after
    }

    /// Whether browsers accept it by its hash. They check any other by its issuer.
    pub(in crate::transport) fn is_pinnable(&self) -> bool {
        self.pinnable
    }

    /// The configuration for HTTP/3, which needs TLS 1.3.
    pub(in crate::transport) fn quic_tls(&self) -> Result<ServerConfig, CertificateError> {
        self.tls(&[&TLS13], WEBTRANSPORT_ALPN)
    }

    /// The configuration for HTTP/1.1. Without tickets: a stream lasts for hours, and each ticket
    /// takes memory and time.
    pub(in crate::transport) fn http_tls(&self) -> Result<ServerConfig, CertificateError> {
        let mut config = self.tls(&[&TLS13, &TLS12], HTTP_ALPN)?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    fn tls(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[u8],
    ) -> Result<ServerConfig, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map(|builder| builder.with_no_client_auth())
            .and_then(|builder| builder.with_single_cert(self.chain.clone(), self.key.clone_key()))
            .map_err(|error| CertificateError::Unusable(error.to_string()))?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// Whether it is self-signed and valid for at most 14 days.
fn pinnable(certificate: &X509Certificate<'_>) -> bool {
    let validity = certificate.validity();
    let days = to_utc(&validity.not_after) - to_utc(&validity.not_before);
    certificate.issuer() == certificate.subject() && days <= TimeDelta::days(PINNED_DAYS_MAX)
}

/// A time outside the range of chrono becomes the epoch: the certificate counts as expired.
fn to_utc(time: &x509_parser::time::ASN1Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).unwrap_or_default()
}
