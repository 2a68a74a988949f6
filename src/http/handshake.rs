//! The opening handshake of a WebSocket, RFC 6455 section 4.2. The check of the request and the
//! response are separate functions, because other checks may refuse the stream in between.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::problem::Problem;

/// The only version.
const VERSION: HeaderValue = HeaderValue::from_static("13");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");
/// The only subprotocol. It carries what a stream without one carries.
const SUBPROTOCOL: &str = "datastream";
/// A key is this many bytes in base64.
const KEY_BYTES: usize = 16;

/// Whether the request asks for a WebSocket.
pub(super) fn is_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    method == Method::GET
        && version >= Version::HTTP_11
        && lists(headers, &header::CONNECTION, "upgrade")
        && lists(headers, &header::UPGRADE, "websocket")
}

/// Refuses a malformed key, as long as the version is known: another one may have other keys.
pub(super) fn check_key(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::SEC_WEBSOCKET_VERSION) {
        Some(version) if version == VERSION => accept(headers).map(drop),
        _ => Ok(()),
    }
}

/// The `Sec-WebSocket-Accept` value of a request that [`is_upgrade`], or the reason to refuse it.
pub(super) fn accept(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    if headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13 (RFC 6455)",
        )
        .with(header::SEC_WEBSOCKET_VERSION, VERSION)
        .with(header::UPGRADE, WEBSOCKET)
        .with(header::CONNECTION, UPGRADE));
    }
    headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES))
        .and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok())
        .ok_or_else(|| Problem::malformed("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// `426`: the route needs a WebSocket handshake, and the request is none.
pub(super) fn upgrade_required() -> Problem {
    let detail = "this is a WebSocket endpoint: connect with ws://, or use /sse for HTTP";
    Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
        .with(header::UPGRADE, WEBSOCKET)
        .with(header::CONNECTION, UPGRADE)
}

/// The head of the `101` response to these headers. It names a subprotocol only if the client
/// offers it: browsers fail a connection whose server picks another (RFC 6455 section 4.1).
pub(super) fn switching(accept: HeaderValue, request: &HeaderMap) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::from_iter([
        (header::CONNECTION, UPGRADE),
        (header::UPGRADE, WEBSOCKET),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ]);
    if tokens(request, &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == SUBPROTOCOL) {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    (StatusCode::SWITCHING_PROTOCOLS, headers)
}

/// Whether a comma-separated header, perhaps on several lines, contains this token in any case.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|part| part.eq_ignore_ascii_case(token))
}

/// Whether `Accept` names this media type, whatever its parameters.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let types = tokens(headers, &header::ACCEPT).filter_map(|range| range.split(';').next());
    types.map(str::trim).any(|range| range.eq_ignore_ascii_case(media_type))
}

/// The elements of a comma-separated header, perhaps on several lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            })
    }

    #[test]
    fn the_accept_value_is_that_of_the_example_in_rfc_6455() {
        let headers = headers(&[
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(accept(&headers).expect("valid"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_upgrade_is_found_among_other_tokens_in_any_case() {
        let asked = headers(&[("connection", "keep-alive, UPGRADE"), ("upgrade", "WebSocket")]);
        assert!(is_upgrade(&Method::GET, Version::HTTP_11, &asked));
        assert!(!is_upgrade(&Method::HEAD, Version::HTTP_11, &asked));
        assert!(!is_upgrade(&Method::GET, Version::HTTP_10, &asked));
        let other = headers(&[("connection", "upgrade"), ("upgrade", "h2c")]);
        assert!(!is_upgrade(&Method::GET, Version::HTTP_11, &other));
    }

    #[test]
    fn the_subprotocol_is_named_only_if_it_is_offered() {
        let chosen = |offers: &[&'static str]| {
            let offers: Vec<_> =
                offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
            let (_, head) = switching(HeaderValue::from_static("x"), &headers(&offers));
            head.get(header::SEC_WEBSOCKET_PROTOCOL).cloned()
        };
        let named = Some(HeaderValue::from_static("datastream"));
        assert_eq!(chosen(&["datastream"]), named);
        assert_eq!(chosen(&["graphql-ws,  datastream"]), named);
        assert_eq!(chosen(&["graphql-ws", "datastream, bearer.x"]), named);
        for none in [&["graphql-ws"][..], &["Datastream"], &["datastream.v2"], &[]] {
            assert_eq!(chosen(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_media_type_is_found_whatever_its_parameters() {
        for accept in
            ["text/event-stream", "text/html, Text/Event-Stream ; q=0.5", "a/b,text/event-stream;x"]
        {
            assert!(accepts(&headers(&[("accept", accept)]), "text/event-stream"), "{accept}");
        }
        assert!(!accepts(
            &headers(&[("accept", "text/*, text/event-streams")]),
            "text/event-stream"
        ));
    }

    #[test]
    fn another_version_or_a_bad_key_is_refused() {
        let old = headers(&[("sec-websocket-version", "8")]);
        assert!(accept(&old).is_err());
        let no_key = headers(&[("sec-websocket-version", "13")]);
        assert!(accept(&no_key).is_err());
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAAAAA", "!!!!!!!!!!!!!!!!!!!!!!==", "dGhlIHNhbXBsZQ=="]
        {
            let headers = headers(&[("sec-websocket-version", "13"), ("sec-websocket-key", bad)]);
            assert!(accept(&headers).is_err(), "{bad}");
        }
    }
}
