//! The `Host` header of a request.

use axum::{
    http::{HeaderValue, Request, Version, header},
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// `400` unless an HTTP/1.1 request has exactly one `Host` (RFC 9112 section 3.2). A proxy in front
/// may have read another one of two.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<Response> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() != Version::HTTP_11 || hosts == 1 {
        return None;
    }
    let detail = format!("an HTTP/1.1 request needs exactly one Host header, this one has {hosts}");
    let close = HeaderValue::from_static("close");
    Some(Problem::malformed(detail).with(header::CONNECTION, close).into_response())
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
        assert_eq!(status(Version::HTTP_10, &[]), None);
    }
}
