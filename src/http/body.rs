//! Request bodies: no route reads one, so each is refused. An empty one is none.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;

use super::problem::Problem;

/// How long the end of an empty chunked body may take, as for a request head.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A request with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    HasBody,
    Malformed,
    TooSlow,
}

/// Refuses an announced body before reading it, and closes the connection, so that no client can
/// make the server read bytes without use.
pub(super) async fn refuse(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match end_of(body).await {
        Ok(()) => next.run(Request::from_parts(parts, Body::empty())).await,
        Err(refused) => Problem::from(refused)
            .with(header::CONNECTION, HeaderValue::from_static("close"))
            .into_response(),
    }
}

/// Reads a body of unknown length up to its first byte. Envoy and linkerd chunk the empty body of a
/// `GET`: the last chunk then follows at once, perhaps with trailers (RFC 9112 section 7.1).
async fn end_of(body: Body) -> Result<(), Refused> {
    match body.size_hint().exact() {
        Some(0) => return Ok(()),
        Some(_) => return Err(Refused::HasBody),
        None => {}
    }
    let mut data = body.into_data_stream();
    match tokio::time::timeout(END_WITHIN, data.next()).await {
        Ok(None) => Ok(()),
        Ok(Some(Ok(_))) => Err(Refused::HasBody),
        Ok(Some(Err(_))) => Err(Refused::Malformed),
        Err(_) => Err(Refused::TooSlow),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::HasBody => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "this server accepts no request bodies")
            }
            Refused::Malformed => Self::malformed("the request body is not valid"),
            Refused::TooSlow => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "the request body did not end in time")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn chunked(parts: Vec<Result<Bytes, &'static str>>) -> Body {
        Body::from_stream(stream::iter(parts))
    }

    #[tokio::test]
    async fn an_empty_body_is_none_whether_its_length_is_known_or_not() {
        assert_eq!(end_of(Body::empty()).await, Ok(()));
        assert_eq!(end_of(chunked(Vec::new())).await, Ok(()));
    }

    #[tokio::test]
    async fn any_byte_is_a_body() {
        assert_eq!(end_of(Body::from("x")).await, Err(Refused::HasBody));
        let one = chunked(vec![Ok(Bytes::from_static(b"x"))]);
        assert_eq!(end_of(one).await, Err(Refused::HasBody));
        assert_eq!(end_of(chunked(vec![Err("broken")])).await, Err(Refused::Malformed));
    }

    #[test]
    fn each_refusal_has_its_status() {
        for (refused, status) in [
            (Refused::HasBody, StatusCode::PAYLOAD_TOO_LARGE),
            (Refused::Malformed, StatusCode::BAD_REQUEST),
            (Refused::TooSlow, StatusCode::REQUEST_TIMEOUT),
        ] {
            assert_eq!(Problem::from(refused).into_response().status(), status);
        }
    }
}
