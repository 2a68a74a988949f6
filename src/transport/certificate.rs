//! Certificates with their keys: read from PEM files, and read again when they change.

mod files;
mod pair;

pub(super) use self::{files::FileCertificate, pair::Pair};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// A file has no valid PEM content.
    #[error("{0}: {1}")]
    Content(String, String),
    /// The chain or the key is invalid, or they do not match.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}
