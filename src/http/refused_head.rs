//! Problem bodies for the requests that hyper refuses by itself, because it cannot read their head.
//!
//! hyper answers these with a head of status 400, 414 or 431 and `content-length: 0`, and then ends
//! the connection. It has no hook for them, so this socket recognizes such a head among the bytes that
//! hyper writes, and sends one with a body instead. No route answers so: each of its refusals has a
//! content type.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem;

/// The most bytes of a request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most fields of a request head.
const HEAD_FIELDS_MAX: usize = 100;
/// The head of a response of hyper's has less than half of these bytes.
const RESPONSE_HEAD_MAX: usize = 512;
const START: &[u8] = b"HTTP/1.";

/// hyper with the limits that a refusal names, for a [`ProblemSocket`]. A request head may take so long.
pub(super) fn builder(head_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX);
    builder
}

/// A socket for hyper.
#[derive(Debug)]
pub(super) struct ProblemSocket<S> {
    socket: S,
    /// What replaces a head, as far as the socket has not taken it.
    rest: Bytes,
}

impl<S> ProblemSocket<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, rest: Bytes::new() }
    }

    pub(super) fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncWrite + Unpin> ProblemSocket<S> {
    /// Takes bytes that end with a head of hyper's, and sends them with another head.
    fn poll_replace(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[&[u8]],
        refused: RefusedHead,
    ) -> Poll<io::Result<usize>> {
        let mut replaced = bytes.concat();
        let taken = replaced.len();
        replaced.truncate(taken - refused.head_bytes);
        replaced.extend_from_slice(&refused.answer());
        self.rest = replaced.into();
        match self.poll_rest(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // hyper flushes, which takes the rest along.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let taken = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.rest))?;
            self.rest.advance(taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProblemSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProblemSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        match RefusedHead::at_end_of(bytes) {
            Some(refused) => self.poll_replace(cx, &[bytes], refused),
            None => Pin::new(&mut self.socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        match slices.last().and_then(|last| RefusedHead::at_end_of(last)) {
            Some(refused) => {
                let bytes: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
                self.poll_replace(cx, &bytes, refused)
            }
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A head that hyper wrote by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RefusedHead {
    status: StatusCode,
    head_bytes: usize,
}

impl RefusedHead {
    fn at_end_of(bytes: &[u8]) -> Option<Self> {
        if !bytes.ends_with(b"\r\n\r\n") {
            return None;
        }
        let tail = &bytes[bytes.len().saturating_sub(RESPONSE_HEAD_MAX)..];
        let at = tail.windows(START.len()).rposition(|part| part == START)?;
        let head = &tail[at..];
        let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
        let is_refusal = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::URI_TOO_LONG
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );
        let has = |start: &[u8]| head.split(|byte| *byte == b'\n').any(|it| it.starts_with(start));
        let is_bare = has(b"content-length: 0\r") && !has(b"content-type:");
        (is_refusal && is_bare).then_some(Self { status, head_bytes: head.len() })
    }

    fn answer(self) -> Vec<u8> {
        let detail = match self.status {
            StatusCode::URI_TOO_LONG => "the request target is too long".to_owned(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let kib = HEAD_BYTES_MAX / 1024;
                format!(
                    "the request head has more than {kib} KiB, or more than {HEAD_FIELDS_MAX} fields"
                )
            }
            _ => "the request head is not valid HTTP/1.1".to_owned(),
        };
        problem::last_response(self.status, &detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
        content-length: 0\r\ndate: Mon, 30 Nov 2026 17:00:00 GMT\r\n\r\n";

    fn found(bytes: &str) -> Option<(u16, usize)> {
        let refused = RefusedHead::at_end_of(bytes.as_bytes())?;
        Some((refused.status.as_u16(), refused.head_bytes))
    }

    #[test]
    fn a_head_of_hypers_is_found_alone_and_behind_another_response() {
        assert_eq!(found(BARE), Some((431, BARE.len())));
        let earlier = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(found(&format!("{earlier}{BARE}")), Some((431, BARE.len())));
        let long = format!("{}{BARE}", "x".repeat(20_000));
        assert_eq!(found(&long), Some((431, BARE.len())));
    }

    #[test]
    fn no_response_of_a_route_is_taken_for_one() {
        let typed = BARE.replace("date:", "content-type: application/problem+json\r\ndate:");
        for other in [
            &*typed,
            &BARE.replace("431", "200"),
            &BARE.replace("content-length: 0", "content-length: 9"),
            &format!("{BARE}x"),
            "0\r\n\r\n",
            "HTTP/1.\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert_eq!(found(other), None, "{other:?}");
        }
    }
}
