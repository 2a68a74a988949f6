//! The certificate that WebTransport shows, and its renewal while the server runs.
//!
//! Either PEM files, read again when they change, or self-signed ones, made here and replaced in
//! time. Browsers accept the latter by their hash (`serverCertificateHashes`): ECDSA P-256, valid
//! for 14 days at most (W3C WebTransport, "custom certificate requirements").

mod files;
mod pair;
mod self_signed;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use self::{files::FileCertificate, pair::Pair, self_signed::SelfSigned};
use crate::config::CertificateFiles;

/// Why a certificate cannot be used. Says which file, or what is wrong with the pair.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// A file is not what it should be.
    #[error("{0}: {1}")]
    Content(String, String),
    /// The chain and the key cannot be used, or not together.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

/// What a page has to know to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedCertificate {
    /// SHA-256 of the certificate; `None` when it is one that browsers check by its issuer.
    pub value: Option<[u8; 32]>,
    /// SHA-256 of the certificate that comes next.
    pub next: Option<[u8; 32]>,
    /// The last moment of the current certificate.
    pub not_after: DateTime<Utc>,
}

#[derive(Debug)]
enum CertificateSource {
    Files(FileCertificate),
    SelfSigned(SelfSigned),
}

/// The certificate in use and where the next one comes from.
#[derive(Debug)]
pub(crate) struct Certificates {
    source: CertificateSource,
    published: watch::Sender<PublishedCertificate>,
}

impl Certificates {
    /// Reads the files, or makes a certificate where there are none.
    pub(crate) fn load(files: Option<CertificateFiles>) -> Result<Self, CertificateError> {
        let source = match files {
            Some(files) => CertificateSource::Files(FileCertificate::read(files)?),
            None => CertificateSource::SelfSigned(SelfSigned::new(Utc::now())?),
        };
        let published = watch::Sender::new(source.published());
        Ok(Self { source, published })
    }

    /// What pages are told, now and later.
    pub(crate) fn published(&self) -> watch::Receiver<PublishedCertificate> {
        self.published.subscribe()
    }

    /// TLS with the current certificate.
    pub(super) fn tls(&self) -> Result<rustls::ServerConfig, CertificateError> {
        match &self.source {
            CertificateSource::Files(files) => files.pair().tls(),
            CertificateSource::SelfSigned(own) => own.pair().tls(),
        }
    }

    /// Waits until there is another certificate. The wait may be dropped and begun again.
    pub(super) async fn renewed(&mut self) {
        match &mut self.source {
            CertificateSource::Files(files) => files.changed().await,
            CertificateSource::SelfSigned(own) => own.rotated().await,
        }
    }

    /// Tells pages of the current certificate: once connections are answered with it.
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
