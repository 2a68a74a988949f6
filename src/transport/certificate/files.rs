//! A certificate in PEM files, read again when they change.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{CertificateError, Pair};
use crate::config::CertificateFiles;

/// The time between two checks of the files. A check is two calls of `stat`. A file watcher would
/// miss changes of bind mounts and of Kubernetes secrets, which replace a symbolic link.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Modification time and size of a file.
type Stamp = Option<(SystemTime, u64)>;

/// The pair in use and the files it came from.
#[derive(Debug)]
pub(in crate::transport) struct FileCertificate {
    paths: CertificateFiles,
    pair: Pair,
    /// The stamps of the files when they were last read.
    read: [Stamp; 2],
}

impl FileCertificate {
    pub(in crate::transport) fn read(paths: CertificateFiles) -> Result<Self, CertificateError> {
        let read = stamps(&paths);
        Ok(Self { pair: load(&paths)?, paths, read })
    }

    pub(in crate::transport) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Waits until the files hold another usable pair. An unusable pair is logged once, and the one
    /// in use stays.
    pub(in crate::transport) async fn changed(&mut self) {
        loop {
            let stamps = self.settled().await;
            match load(&self.paths) {
                Ok(pair) => {
                    (self.pair, self.read) = (pair, stamps);
                    tracing::info!(not_after = %self.pair.not_after(), "reloaded the certificate");
                    return;
                }
                Err(error) => {
                    self.read = stamps;
                    tracing::error!(%error, "cannot use the changed certificate: keeping the old one");
                }
            }
        }
    }

    /// Waits until the files have changed, and then not changed for one interval: chain and key are
    /// rarely written at once.
    async fn settled(&self) -> [Stamp; 2] {
        let mut last = self.read;
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let now = stamps(&self.paths);
            if now == last && now != self.read {
                return now;
            }
            last = now;
        }
    }
}

/// Blocks for two calls of `stat`, which cost less than a move to another thread.
fn stamps(paths: &CertificateFiles) -> [Stamp; 2] {
    let stamp = |meta: Metadata| meta.modified().ok().map(|modified| (modified, meta.len()));
    [&paths.chain, &paths.key].map(|path| fs::metadata(path).ok().and_then(stamp))
}

fn load(paths: &CertificateFiles) -> Result<Pair, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(&read(&paths.chain)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(&paths.chain, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&paths.key)?);
    let key = key.map_err(|error| content(&paths.key, &error))?;
    Pair::new(certificates, key)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| CertificateError::File(path.display().to_string(), error))
}

fn content(path: &Path, error: &rustls_pki_types::pem::Error) -> CertificateError {
    CertificateError::Content(path.display().to_string(), error.to_string())
}
