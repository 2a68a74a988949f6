//! The codes with which the server closes a WebSocket.

use futures_util::future::join_all;

use testkit::{
    DedicatedCluster, FaultProxy, SseClient, TestDatabase, TestServer, WsClient, raw_http, serving,
};

const HANDSHAKE: &str = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked frame with this first byte. The mask is zero, so the payload stays as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let size = payload.len();
    let size = match u8::try_from(size) {
        Ok(size @ ..126) => vec![0x80 | size],
        _ => [&[0xfe][..], &u16::try_from(size).expect("a size").to_be_bytes()].concat(),
    };
    [&[first][..], &size, &[0; 4], payload].concat()
}

/// The code of the close frame with which the server answers these bytes, if it answers nothing else.
async fn code_after(server: &TestServer, sent: &[u8]) -> Option<u16> {
    let mut client = raw_http(server.addr, HANDSHAKE).await;
    client.read_until("\r\n\r\n").await;
    client.send(sent).await;
    match client.bytes_to_end().await[..] {
        [0x88, size, high, low, ref reason @ ..] if usize::from(size) == 2 + reason.len() => {
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

#[tokio::test]
async fn each_fault_of_a_client_is_closed_with_the_code_of_the_contract() {
    let (_database, server) = serving().await;
    let half = [0; 2049];
    let cases = [
        ("a close", frame(0x88, &1000_u16.to_be_bytes()), 1000),
        ("a frame without a mask", vec![0x81, 0x02, b'h', b'i'], 1002),
        ("reserved bits", frame(0xf1, b""), 1002),
        ("an opcode that is not there", frame(0x83, b""), 1002),
        ("a continuation of nothing", frame(0x80, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a close code that must not be sent", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff"), 1007),
        ("a message of 4,097 bytes", frame(0x82, &[0; 4097]), 1009),
        ("the same in two fragments", [frame(0x02, &half), frame(0x80, &half)].concat(), 1009),
    ];
    let asked = cases.iter().map(|(_, sent, _)| code_after(&server, sent));
    for ((what, _, code), seen) in cases.iter().zip(join_all(asked).await) {
        assert_eq!(seen, Some(*code), "{what}");
    }
}

#[tokio::test]
async fn a_replay_that_the_database_breaks_off_ends_with_1011_and_an_event_stream_without_a_code() {
    let cluster = DedicatedCluster::start_with(&[("autovacuum", "off")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let proxy = FaultProxy::start(cluster.address().tcp_port).await;
    let server = TestServer::on(database.url_through(proxy.port));
    let server = server.env("DATASTREAM_HISTORY", "2").start().await;
    let seen = database.finish_streamed(&server, "crash", "{}").await;
    // 6 MB: more than the sockets' buffers hold, so the last pages are read later.
    let large = "with made as (insert into rounds (game_id, finished_at, extras) \
        select g.id, now(), jsonb_build_object('text', repeat('x', 20000)) \
        from games g, generate_series(1, 300) where g.slug = 'crash' returning id) \
        select max(id)::text from made";
    let last: i64 = database.text(large).await.expect("rounds").parse().expect("an id");
    let mut live = WsClient::connect(server.ws("/ws/crash")).await;
    live.rounds_until(last).await;
    let path = |transport| format!("/{transport}/crash?after={seen}");
    let mut socket = WsClient::connect(server.ws(&path("ws"))).await;
    let mut events = SseClient::connect(&server.http(&path("sse"))).await;
    proxy.refuse();
    server.unready().await;
    assert_eq!(socket.close_code().await, Some(1011));
    assert!(events.ends_cleanly().await);
    proxy.resume();
    server.ready().await;
    let mut socket = WsClient::connect(server.ws(&path("ws"))).await;
    assert_eq!(socket.rounds_until(last).await.len(), 300);
    drop((server, database, cluster));
}
