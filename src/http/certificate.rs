//! `GET /wt/certificate`: the URL and the certificate hash that a page needs for WebTransport.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::SecondsFormat;
use serde::Serialize;
use tokio::sync::watch;

use super::{SharedState, problem::Problem};
use crate::transport::wt::certificate::PublishedCertificate;

/// A page with a cached hash of a rotated certificate cannot connect.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// WebTransport as advertised to pages.
#[derive(Clone, Debug)]
pub(crate) struct AdvertisedWebTransport {
    /// The certificate.
    pub certificate: watch::Receiver<PublishedCertificate>,
    /// The UDP port.
    pub port: u16,
}

#[derive(Serialize)]
struct CertificateBody {
    algorithm: &'static str,
    value: Option<String>,
    next: Option<String>,
    not_after: String,
    url: String,
}

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/wt/certificate", get(certificate))
}

async fn certificate(
    State(state): State<SharedState>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(advertised) = &state.web_transport else {
        let detail = "WebTransport is off: set DATASTREAM_WT_ENABLED to turn it on";
        return Err(Problem::not_found(detail));
    };
    let body = body(&advertised.certificate.borrow(), &host(&uri, &headers), advertised.port);
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(body)).into_response())
}

fn body(published: &PublishedCertificate, host: &str, port: u16) -> CertificateBody {
    let encode = |hash: [u8; 32]| STANDARD.encode(hash);
    CertificateBody {
        algorithm: "sha-256",
        value: published.value.map(encode),
        next: published.next.map(encode),
        not_after: published.not_after.to_rfc3339_opts(SecondsFormat::Secs, true),
        url: format!("https://{host}:{port}/wt"),
    }
}

/// The host of the request: the client can reach the server under this name.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let named = named.and_then(|host| host.parse::<Authority>().ok());
    let host = uri.authority().or(named.as_ref()).map(Authority::host);
    host.filter(|host| !host.is_empty()).unwrap_or("localhost").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(header: &'static str) -> String {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(header))]);
        host(&Uri::from_static("/wt/certificate"), &headers)
    }

    #[test]
    fn the_url_has_the_host_of_the_request_and_the_port_of_web_transport() {
        assert_eq!(host_of("game.example:3000"), "game.example");
        assert_eq!(host_of("[::1]:3000"), "[::1]");
        assert_eq!(host_of("no host"), "localhost");
        let published =
            PublishedCertificate { value: None, next: None, not_after: Default::default() };
        let body = serde_json::to_string(&body(&published, "[::1]", 4433)).expect("JSON");
        let golden = r#"{"algorithm":"sha-256","value":null,"next":null,"not_after":"1970-01-01T00:00:00Z","url":"https://[::1]:4433/wt"}"#;
        assert_eq!(body, golden);
    }
}
