//! A certificate in PEM files, read again when they change.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{CertificateError, Pair};
use crate::config::CertificateFiles;

/// How often the files are looked at: two calls of `stat`, and no watcher that a bind mount or a
/// Kubernetes secret (a symbolic link that is exchanged) would escape.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells a file's content from its former one.
type Stamp = Option<(SystemTime, u64)>;

/// The pair in use and the files it came from.
#[derive(Debug)]
pub(super) struct FileCertificate {
    paths: CertificateFiles,
    pair: Pair,
    /// Of the files when they were last read.
    read: [Stamp; 2],
}

impl FileCertificate {
    pub(super) fn read(paths: CertificateFiles) -> Result<Self, CertificateError> {
        let read = stamps(&paths);
        Ok(Self { pair: load(&paths)?, paths, read })
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Waits until the files hold another pair that can be used. A pair that cannot is told once
    /// and left alone: the one in use stays.
    pub(super) async fn changed(&mut self) {
        loop {
            let stamps = self.settled().await;
            match load(&self.paths) {
                Ok(pair) => {
                    (self.pair, self.read) = (pair, stamps);
                    tracing::info!(wt.not_after = %self.pair.not_after(), "the certificate was reloaded");
                    return;
                }
                Err(error) => {
                    self.read = stamps;
                    tracing::error!(%error, "the changed certificate cannot be used: the old one stays");
                }
            }
        }
    }

    /// Waits until the files have changed and then stayed the same for a look: the chain and the
    /// key are rarely written at once.
    async fn settled(&self) -> [Stamp; 2] {
        let mut last = self.read;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamps(&self.paths);
            if now == last && now != self.read {
                return now;
            }
            last = now;
        }
    }
}

/// A look that blocks for two calls of `stat`, which is less than handing them to a thread.
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
