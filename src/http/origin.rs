//! Allowed origins: CORS for HTTP requests, and a check of handshakes, which CORS does not cover.

use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode, header};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use super::problem::Problem;
use crate::config::AllowedOrigins;

/// How long a browser may cache a preflight. Chromium caches it for at most two hours.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7200);

/// `Access-Control-*` headers for the allowed origins.
pub(super) fn cors(allowed: &AllowedOrigins) -> CorsLayer {
    let cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        // `*` would exclude `Authorization`, and with credentials it is no wildcard (WHATWG Fetch,
        // "CORS-preflight fetch").
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::LINK, header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_AGE);
    if *allowed == AllowedOrigins::Any {
        return cors.allow_origin(AllowOrigin::any());
    }
    let (listed, named) = (allowed.clone(), allowed.clone());
    cors.allow_origin(AllowOrigin::predicate(move |origin, _| {
        origin.to_str().is_ok_and(|origin| listed.allows(origin))
    }))
    .allow_credentials(AllowCredentials::predicate(move |origin, _| {
        origin.to_str().is_ok_and(|origin| named.allows_credentials(origin))
    }))
}

/// Refuses a handshake from a page of another origin. A client without an origin is no browser, and
/// could send any origin.
pub(super) fn guard(allowed: &AllowedOrigins, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    if allowed.allows(origin) {
        return Ok(());
    }
    let detail = format!("the origin {origin:?} is not in DATASTREAM_ALLOWED_ORIGINS");
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn only_a_listed_origin_may_open_a_stream() {
        let list = AllowedOrigins::List(vec!["https://good.example".into()]);
        assert!(guard(&list, &from("https://good.example")).is_ok());
        assert!(guard(&list, &from("https://good.example.evil.example")).is_err());
        assert!(guard(&list, &from("null")).is_err());
        assert!(guard(&list, &HeaderMap::new()).is_ok());
        assert!(guard(&AllowedOrigins::Any, &from("null")).is_ok());
        let with_null: AllowedOrigins = "https://good.example,null".parse().expect("a list");
        assert!(guard(&with_null, &from("null")).is_ok());
    }
}
