//! `GET /openapi.json` and `/asyncapi.json`: this interface, for tools.
//!
//! `tests/api_documents.rs` and `tests/tidy_documents.rs` compare the documents with the code;
//! `tests/api` validates them and runs requests that are generated from them.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::SharedState;
use crate::ops::build_info;

const DOCUMENTS: [(&str, &str); 2] = [
    ("/openapi.json", include_str!("api/openapi.json")),
    ("/asyncapi.json", include_str!("api/asyncapi.json")),
];
/// The place of the program's version in a document.
const VERSION: &str = "\"version\": \"VERSION\"";
/// The next version of the program has other documents.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn router() -> Router<SharedState> {
    DOCUMENTS.into_iter().fold(Router::new(), |router, (path, text)| {
        let version = format!("\"version\": \"{}\"", build_info::VERSION);
        let body = Bytes::from(text.replacen(VERSION, &version, 1));
        router.route(path, get(|| async move { answer(body) }))
    })
}

fn answer(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NO_CACHE)], body).into_response()
}
