//! The head of a response as bytes, for streams that hyper does not write.

use axum::http::{Version, header, response::Parts};
use chrono::Utc;

/// RFC 9110 section 5.6.7.
pub(super) const DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// Writes a head without a content length. Adds `date`, which an origin server must send (RFC 9110
/// section 6.6.1), and `transfer-encoding` if the body is chunked.
pub(super) fn write(parts: &Parts, is_chunked: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let version: &[u8] = match parts.version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    };
    head.extend_from_slice(version);
    let reason = parts.status.canonical_reason().unwrap_or_default();
    head.extend_from_slice(format!("{} {reason}\r\n", parts.status.as_u16()).as_bytes());
    // axum adds `content-length: 0`, because the response body is empty.
    for (name, value) in parts.headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH) {
        line(&mut head, name.as_str(), value.as_bytes());
    }
    if is_chunked {
        line(&mut head, "transfer-encoding", b"chunked");
    }
    line(&mut head, "date", Utc::now().format(DATE).to_string().as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Response;

    use super::*;

    fn text(version: Version, is_chunked: bool) -> String {
        let response = Response::builder()
            .version(version)
            .header("content-type", "text/event-stream")
            .header("content-length", "0")
            .header("vary", "origin")
            .header("vary", "accept");
        let (parts, ()) = response.body(()).expect("a response").into_parts();
        String::from_utf8(write(&parts, is_chunked)).expect("text")
    }

    #[test]
    fn a_head_has_its_headers_and_a_date_but_no_length() {
        let head = text(Version::HTTP_11, true);
        let rest = head.strip_prefix("HTTP/1.1 200 OK\r\n").expect("a status line");
        let start = "content-type: text/event-stream\r\nvary: origin\r\nvary: accept\r\n\
            transfer-encoding: chunked\r\ndate: ";
        let date = rest.strip_prefix(start).expect("the headers");
        assert!(date.ends_with(" GMT\r\n\r\n") && !head.contains("content-length"), "{head}");
    }

    #[test]
    fn http_1_0_has_no_chunked_body() {
        let head = text(Version::HTTP_10, false);
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("chunked"), "{head}");
    }
}
