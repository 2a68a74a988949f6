//! `GET /`: a page that shows the rounds as they come.

use axum::{
    Router,
    http::header,
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::Shared;

/// One file: nothing to install, nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Only the script and the style of this very file run (by their SHA-256), and they may talk to
/// this server only.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'sha256-EIwmMtWnG7JiHCfm5u4lFPWlSFrnyAJRZX9tOkd4aeo='; style-src 'sha256-Nkt/Ih1HQ11fNy9mqq5GKc+O+kFaws3DP+uAGXgD6U0='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/", get(page))
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

    const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// What a policy calls this text. A SHA-256 has 32 bytes: 10 groups of three, and two more.
    fn source(element: &str) -> String {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = PAGE.split_once(&open).expect("opens").1.split_once(&close).expect("closes").0;
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("TLS 1.3");
        let hash = suite.common.hash_provider.hash(text.as_bytes());
        let mut bytes = hash.as_ref().to_vec();
        bytes.push(0);
        let mut name = String::from("'sha256-");
        for group in bytes.chunks(3) {
            let bits = group.iter().fold(0_usize, |bits, &byte| bits << 8 | usize::from(byte));
            for shift in [18, 12, 6, 0] {
                name.push(char::from(BASE64[bits >> shift & 63]));
            }
        }
        name.pop();
        name + "='"
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_of_the_page() {
        for element in ["script", "style"] {
            let source = source(element);
            assert!(POLICY.contains(&format!("{element}-src {source}")), "{element}: {source}");
        }
    }
}
