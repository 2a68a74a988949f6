//! libpq's `sslmode` as a rustls verifier. rustls alone always means `verify-full`.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    ops::partial_verifier::{Check, PartialVerifier},
    postgres::target::{SslMode, Tls},
};

/// Creates TLS sessions. The error names the file that cannot be used. Files are read for each
/// connection, so that renewed ones take effect.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &tls.identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let unusable = |error| format!("{}: {error}", key.display());
            config
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(unusable)?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let check = match tls.mode {
        SslMode::VerifyFull => return chain(tls, provider).map(|verifier| verifier as _),
        SslMode::VerifyCa => Check::Chain(chain(tls, provider)?),
        _ => Check::Nothing,
    };
    Ok(Arc::new(PartialVerifier::new(check, provider)))
}

fn chain(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let (mut roots, found) = (
        RootCertStore::empty(),
        match &tls.roots {
            Some(file) => certificates(file)?,
            None => rustls_native_certs::load_native_certs().certs,
        },
    );
    roots.add_parsable_certificates(found);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|_| {
            "no certificate authority to verify the server's certificate. Set sslrootcert=FILE."
                .to_owned()
        })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |error| format!("{}: {error}", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(unusable)?;
    all.collect::<Result<_, _>>().map_err(unusable)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))
}
