//! What clients need besides an address: a certificate to trust, a token.

use std::{net::SocketAddr, sync::Arc};

use testkit::{
    Signer, TestCertificate, WsClient, raw_http,
    tls::{self, ClientConfig},
    token,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::options::{Attack, Options};

/// The name of the key, in the server's set and in the attackers' tokens.
const KEY: &str = "key";

/// Empty for a server that speaks plain HTTP to everybody.
#[derive(Debug, Default)]
pub(crate) struct Access {
    tls: Option<(TestCertificate, Arc<ClientConfig>)>,
    keys: Option<(tempfile::NamedTempFile, Signer)>,
}

impl Access {
    pub(crate) fn of(options: &Options) -> std::io::Result<Self> {
        let tls = options.tls || options.attack == Attack::TlsConnects;
        let tokens = options.tokens || options.attack == Attack::BadTokens;
        Ok(Self { tls: tls.then(trusted), keys: tokens.then(keys).transpose()? })
    }

    /// The variables of the server.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let tls = self.tls.iter().flat_map(|(certificate, _)| certificate.variables());
        let keys = self.keys.iter();
        let keys =
            keys.map(|(file, _)| ("DATASTREAM_AUTH_KEYS", file.path().display().to_string()));
        tls.chain(keys).collect()
    }

    /// The configuration of clients, if the server speaks TLS.
    pub(crate) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|(_, config)| Arc::clone(config))
    }

    /// A WebSocket of a client that may listen.
    pub(crate) async fn web_socket(
        &self,
        address: SocketAddr,
        path: &str,
    ) -> Result<WsClient, u16> {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let token = self.keys.as_ref().map(|(_, signer)| bearer(signer));
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let url = format!("{scheme}://{address}{path}");
        WsClient::try_connect_by(&url, &headers, self.tls()).await
    }

    /// The answer to a request that says `Connection: close`.
    pub(crate) async fn exchange(&self, address: SocketAddr, request: &str) -> String {
        let Some(config) = self.tls() else {
            return raw_http(address, request).await.read_to_end().await;
        };
        let mut answer = String::new();
        if let Some(mut stream) = tls::connect(config, address).await {
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.read_to_string(&mut answer).await;
        }
        answer
    }
}

/// A header's value with a token that nobody accepts, though its key has the name of a known one.
pub(crate) fn bad_bearer() -> String {
    bearer(&Signer::es256().named(KEY))
}

fn bearer(signer: &Signer) -> String {
    format!("Bearer {}", signer.opening(&["*"]))
}

fn trusted() -> (TestCertificate, Arc<ClientConfig>) {
    let certificate = TestCertificate::new();
    let config = Arc::new(certificate.client());
    (certificate, config)
}

fn keys() -> std::io::Result<(tempfile::NamedTempFile, Signer)> {
    let (file, signer) = (tempfile::NamedTempFile::new()?, Signer::es256().named(KEY));
    std::fs::write(file.path(), token::jwk_set([&signer]))?;
    Ok((file, signer))
}
