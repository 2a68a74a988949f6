//! The requests of a connection whose responses are not yet written.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http_body::{Frame, SizeHint};

use crate::ops::connection_limiter::PendingConnection;

/// Counts the requests of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Exchanges(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Requests that announced a body. hyper must drop that body, or end the connection: what
    /// follows is no request.
    with_body: AtomicUsize,
    connection: Arc<PendingConnection>,
}

/// A request, until its response is written.
#[derive(Debug)]
pub(super) struct Exchange(Arc<Counts>);

/// The body of a response.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    _exchange: Exchange,
}

impl Exchanges {
    pub(super) fn new(connection: Arc<PendingConnection>) -> Self {
        let [begun, ended, with_body] = [(); 3].map(|()| AtomicUsize::new(0));
        Self(Arc::new(Counts { begun, ended, with_body, connection }))
    }

    /// Counts a request with this body.
    pub(super) fn begin(&self, body: &impl HttpBody) -> Exchange {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        if !body.is_end_stream() {
            self.0.with_body.fetch_add(1, Ordering::Relaxed);
        }
        self.0.connection.begin_request();
        Exchange(Arc::clone(&self.0))
    }

    /// Whether there were requests, none announced a body, and hyper has the whole response to
    /// each.
    pub(super) fn are_done(&self) -> bool {
        let [begun, ended, with_body] =
            [&self.0.begun, &self.0.ended, &self.0.with_body].map(|it| it.load(Ordering::Relaxed));
        begun > 0 && begun == ended && with_body == 0
    }
}

impl Exchange {
    /// Ends with the body of this response.
    pub(super) fn track(self, response: Response) -> Response<TrackedBody> {
        response.map(|body| TrackedBody { body, _exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.connection.end_request();
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
