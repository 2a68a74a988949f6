//! HTTP: with a library for ordinary requests, with a raw socket for exact or invalid bytes.

use std::net::SocketAddr;

use reqwest::{Client, Method, header::HeaderMap, redirect::Policy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::within;

/// A complete response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Response {
    /// A header's value, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Asserts that the response is an RFC 9457 problem with this status.
    #[track_caller]
    pub fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for key in ["type", "title", "detail"] {
            assert!(problem[key].is_string(), "{key} of {problem}");
        }
    }
}

/// A client without a pool: each request opens a connection.
pub fn client() -> Client {
    let client = Client::builder().pool_max_idle_per_host(0).redirect(Policy::none()).no_proxy();
    client.build().expect("a client")
}

/// `GET`.
#[track_caller]
pub fn get(url: &str) -> impl Future<Output = Response> + use<> {
    request(&Method::GET, url, &[])
}

/// `GET`; `None` if it fails, for example because no server listens.
pub async fn try_get(url: &str) -> Option<Response> {
    read(client().get(url).send().await.ok()?).await
}

/// Any request without a body.
#[track_caller]
pub fn request(
    method: &Method,
    url: &str,
    headers: &[(&str, &str)],
) -> impl Future<Output = Response> + use<> {
    let mut request = client().request(method.clone(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within(format!("{method} {url}"), async move {
        read(request.send().await.expect("a response")).await.expect("a whole response")
    })
}

async fn read(response: reqwest::Response) -> Option<Response> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Response { status, headers, body: response.text().await.ok()? })
}

/// A raw connection.
#[derive(Debug)]
pub struct RawHttp {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Connects and sends these bytes.
pub async fn raw_http(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> RawHttp {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(bytes.as_ref()).await.expect("a write");
    RawHttp { stream, read: Vec::new() }
}

impl RawHttp {
    /// Sends more bytes; returns false if the server has closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads until this text arrives; returns everything since the last call, including the text.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> impl Future<Output = String> + use<'_> {
        let text = text.to_owned();
        within(format!("{text:?} from the server"), async move {
            loop {
                let is_there = |part: &[u8]| part == text.as_bytes();
                if let Some(at) = self.read.windows(text.len()).position(is_there) {
                    let rest = self.read.split_off(at + text.len());
                    let found = std::mem::replace(&mut self.read, rest);
                    return String::from_utf8_lossy(&found).into_owned();
                }
                let read = self.stream.read_buf(&mut self.read).await.expect("a read");
                let all = String::from_utf8_lossy(&self.read);
                assert!(read > 0, "the server closed the connection after {all:?}");
            }
        })
    }

    /// Whether these bytes are among those that have arrived and were not read.
    pub fn has_bytes(&mut self, bytes: &[u8]) -> bool {
        while matches!(self.stream.try_read_buf(&mut self.read), Ok(read) if read > 0) {}
        self.read.windows(bytes.len()).any(|part| part == bytes)
    }

    /// Reads until the server closes or resets the connection; returns the rest.
    #[track_caller]
    pub fn read_to_end(self) -> impl Future<Output = String> {
        let bytes = self.bytes_to_end();
        async move { String::from_utf8_lossy(&bytes.await).into_owned() }
    }

    /// The same as bytes.
    #[track_caller]
    pub fn bytes_to_end(mut self) -> impl Future<Output = Vec<u8>> {
        within("the server to close the connection", async move {
            while matches!(self.stream.read_buf(&mut self.read).await, Ok(read) if read > 0) {}
            self.read
        })
    }
}
