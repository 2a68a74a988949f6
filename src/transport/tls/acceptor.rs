//! The certificate of the HTTP port, and its reload while the server runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;

use super::Tls;
use crate::{
    config::CertificateFiles,
    ops::{
        shutdown::Shutdown,
        telemetry::metrics::{ByCertificate, Issued, Listener, Metrics},
    },
    transport::certificate::{CertificateError, FileCertificate},
};

/// TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}. Check --tls-cert (DATASTREAM_TLS_CERT) and --tls-key (DATASTREAM_TLS_KEY).")]
pub(crate) struct TlsFailure(#[from] CertificateError);

/// Begins TLS on new connections, with the current certificate. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TlsAcceptor(Arc<ArcSwap<ServerConfig>>);

impl TlsAcceptor {
    /// Reads the files. The certificate is read again when they change, until a shutdown.
    pub(crate) fn start(
        files: CertificateFiles,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, TlsFailure> {
        let certificate = FileCertificate::read(files)?;
        let acceptor = Self(Arc::new(ArcSwap::from_pointee(certificate.pair().http_tls()?)));
        let label = ByCertificate { listener: Listener::http, source: Issued::file };
        let expiry = metrics.certificate_expiry_timestamp_seconds.get_or_create_owned(&label);
        expiry.set(certificate.pair().not_after().timestamp());
        shutdown.spawn_until_requested(acceptor.clone().reload(certificate, expiry));
        Ok(acceptor)
    }

    async fn reload(self, mut certificate: FileCertificate, expiry: Gauge) {
        loop {
            certificate.changed().await;
            match certificate.pair().http_tls() {
                Ok(config) => {
                    self.0.store(Arc::new(config));
                    expiry.set(certificate.pair().not_after().timestamp());
                }
                Err(error) => {
                    tracing::error!(%error, "cannot use the new certificate: keeping the old one");
                }
            }
        }
    }

    /// The state of a new connection.
    pub(crate) fn begin(&self) -> Result<Tls, rustls::Error> {
        Tls::new(self.0.load_full())
    }
}
