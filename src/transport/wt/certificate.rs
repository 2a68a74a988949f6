//! The certificate of WebTransport, and its renewal while the server runs.
//!
//! The certificate comes from PEM files, which are read again when they change, or is self-signed
//! and rotated. Browsers accept a self-signed one by its hash (`serverCertificateHashes`): ECDSA
//! P-256, valid for at most 14 days (W3C WebTransport, "custom certificate requirements").

mod self_signed;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use self::self_signed::SelfSigned;
pub(crate) use crate::transport::certificate::CertificateError;
use crate::{
    config::CertificateFiles,
    transport::certificate::{FileCertificate, Pair},
};

/// The certificate data that a page needs to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedCertificate {
    /// SHA-256 of the certificate; `None` if browsers check it by its issuer.
    pub value: Option<[u8; 32]>,
    /// SHA-256 of the next certificate.
    pub next: Option<[u8; 32]>,
    /// The end of validity of the current certificate.
    pub not_after: DateTime<Utc>,
}

#[derive(Debug)]
enum CertificateSource {
    Files(FileCertificate),
    SelfSigned(SelfSigned),
}

/// The certificate in use, and the source of the next one.
#[derive(Debug)]
pub(crate) struct Certificates {
    source: CertificateSource,
    published: watch::Sender<PublishedCertificate>,
}

impl Certificates {
    /// Reads the files, or makes a self-signed certificate without them.
    pub(crate) fn load(files: Option<CertificateFiles>) -> Result<Self, CertificateError> {
        let source = match files {
            Some(files) => CertificateSource::Files(FileCertificate::read(files)?),
            None => CertificateSource::SelfSigned(SelfSigned::new(Utc::now())?),
        };
        let published = watch::Sender::new(source.published());
        Ok(Self { source, published })
    }

    /// The published certificate, with its changes.
    pub(crate) fn published(&self) -> watch::Receiver<PublishedCertificate> {
        self.published.subscribe()
    }

    /// The TLS configuration with the current certificate.
    pub(super) fn tls(&self) -> Result<rustls::ServerConfig, CertificateError> {
        match &self.source {
            CertificateSource::Files(files) => files.pair().quic_tls(),
            CertificateSource::SelfSigned(own) => own.pair().quic_tls(),
        }
    }

    /// Waits for another certificate. Cancel safe.
    pub(super) async fn renewed(&mut self) {
        match &mut self.source {
            CertificateSource::Files(files) => files.changed().await,
            CertificateSource::SelfSigned(own) => own.rotated().await,
        }
    }

    /// Publishes the current certificate. Called once the endpoint uses it.
    pub(super) fn publish(&self) {
        self.published.send_replace(self.source.published());
    }
}

impl CertificateSource {
    fn published(&self) -> PublishedCertificate {
        let hash = |pair: &Pair| pair.hash();
        match self {
            Self::Files(files) => {
                let pair = files.pair();
                let value = pair.is_pinnable().then(|| pair.hash());
                PublishedCertificate { value, next: None, not_after: pair.not_after() }
            }
            Self::SelfSigned(own) => PublishedCertificate {
                value: Some(hash(own.pair())),
                next: Some(hash(own.next())),
                not_after: own.pair().not_after(),
            },
        }
    }
}
