//! The `Host` header of a request.

use axum::{
    extract,
    http::{HeaderValue, Request, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// `400` unless an HTTP/1.1 request has exactly one valid `Host` (RFC 9112 section 3.2). A proxy in
/// front may have read another one of two.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<Response> {
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    let detail = match hosts[..] {
        _ if request.version() != Version::HTTP_11 => return None,
        [host] if is_valid(host) => return None,
        [_] => "the Host header is not valid".to_owned(),
        _ => format!(
            "an HTTP/1.1 request needs exactly one Host header, this one has {}",
            hosts.len()
        ),
    };
    let close = HeaderValue::from_static("close");
    Some(Problem::malformed(detail).with(header::CONNECTION, close).into_response())
}

/// The same as a layer of a router.
pub(super) async fn check(request: extract::Request, next: Next) -> Response {
    match refuse(&request) {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

/// A host and perhaps a port; empty if the target has no authority (RFC 9110 section 7.2).
fn is_valid(host: &HeaderValue) -> bool {
    host.is_empty() || Authority::try_from(host.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, hosts: &[&str]) -> Option<u16> {
        let request = Request::get("/healthz").version(version);
        let request = hosts.iter().fold(request, |request, host| request.header("host", *host));
        let request = request.body(()).expect("a request");
        refuse(&request).map(|response| response.status().as_u16())
    }

    #[test]
    fn http_1_1_needs_exactly_one_host() {
        assert_eq!(status(Version::HTTP_11, &["a"]), None);
        assert_eq!(status(Version::HTTP_11, &[]), Some(400));
        assert_eq!(status(Version::HTTP_11, &["a", "a"]), Some(400));
        for valid in ["", "a:3000", "[::1]:3000", "a_b.example"] {
            assert_eq!(status(Version::HTTP_11, &[valid]), None, "{valid:?}");
        }
        for bad in ["a b", "a, b", "a/b", "a:b:c"] {
            assert_eq!(status(Version::HTTP_11, &[bad]), Some(400), "{bad:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), None);
    }
}
