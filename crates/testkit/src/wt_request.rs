//! A WebTransport request by hand: the status and the header fields of its answer, which the library
//! does not show.

use std::collections::HashMap;

use wtransport::proto::{
    bytes::BufferReader, frame::Frame, headers::Headers, settings::Settings,
    stream_header::StreamHeader, varint::VarInt,
};

use super::{quic::QuicClient, server::TestServer, within};

/// The head of an answer.
#[derive(Debug)]
pub struct WtAnswer {
    pub status: u16,
    pub fields: HashMap<String, String>,
}

impl WtAnswer {
    /// A header field, empty if the answer has none of this name.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Asks for a session at this path, which begins with `/wt`.
#[track_caller]
pub fn wt_request(
    server: &TestServer,
    path: &str,
    fields: &[(&str, &str)],
) -> impl Future<Output = WtAnswer> {
    within(format!("an answer to {path}"), ask(server, path, fields))
}

async fn ask(server: &TestServer, path: &str, fields: &[(&str, &str)]) -> WtAnswer {
    let connection = QuicClient::of(server).await.connect().await;
    let mut control = connection.open_uni().await.expect("a control stream");
    control.write_all(&settings()).await.expect("written");
    let (mut send, mut receive) = connection.open_bi().await.expect("a request stream");
    let of_connect = [
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        (":protocol", "webtransport"),
    ];
    let head = Headers::from_iter(of_connect.iter().chain(fields).copied());
    send.write_all(&bytes_of(&head.generate_frame())).await.expect("written");
    let mut received = Vec::new();
    loop {
        if let Some(frame) = read_frame(&received) {
            return answer(&Headers::with_frame(&frame).expect("header fields"));
        }
        let chunk = receive.read_chunk(4096, true).await.expect("a read");
        received.extend_from_slice(&chunk.expect("an answer").bytes);
    }
}

/// The start of a control stream (RFC 9114 section 6.2.1).
fn settings() -> Vec<u8> {
    let settings = Settings::builder()
        .qpack_max_table_capacity(VarInt::from_u32(0))
        .qpack_blocked_streams(VarInt::from_u32(0))
        .enable_connect_protocol()
        .enable_webtransport()
        .enable_h3_datagrams()
        .webtransport_max_sessions(VarInt::from_u32(1))
        .build();
    let mut bytes = Vec::new();
    StreamHeader::new_control().write(&mut bytes).expect("room");
    settings.generate_frame().write(&mut bytes).expect("room");
    bytes
}

fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes).expect("room");
    bytes
}

fn read_frame(received: &[u8]) -> Option<Frame<'_>> {
    Frame::read_from_buffer(&mut BufferReader::new(received)).expect("a frame")
}

fn answer(head: &Headers) -> WtAnswer {
    let status = head.get(":status").expect("a status").parse().expect("a number");
    WtAnswer { status, fields: head.as_ref().clone() }
}
