//! Streams leave HTTP at the door: what comes before, behind and around their request.

use crate::support::{TestDatabase, TestServer, WsClient, eventually, get, raw_http, serving};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_stream_may_follow_other_requests_on_its_connection() {
    let (database, server) = serving().await;
    let mut client = raw_http(server.addr, HEALTH).await;
    client.read_until("\"ok\"}").await;
    client.send("GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.read_until("retry: 2000\n\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let round = database.finish("crash", "{}").await;
    client.read_until(&format!("id: {round}\n")).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_full_before_the_stream() {
    let (database, server) = serving().await;
    let round = database.finish_streamed(&server, "crash", "{}").await;
    let page = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let stream = "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";
    let requests = [&page.repeat(40), stream, HEALTH].concat();
    let mut client = raw_http(server.addr, requests).await;
    let answers = client.read_until(&format!("id: {round}\n")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 41);
    assert_eq!(answers.matches("</html>").count(), 40);
    let tail = answers.rsplit("</html>").next().expect("the stream");
    assert!(tail.contains("text/event-stream") && tail.contains("event: initial"), "{tail}");
}

#[tokio::test]
async fn a_target_in_absolute_form_is_the_same_stream() {
    let (database, server) = serving().await;
    let round = database.finish("crash", "{}").await;
    let request = "GET http://elsewhere/sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";
    raw_http(server.addr, request).await.read_until(&format!("id: {round}\n")).await;
}

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_read() {
    let (_database, server) = serving().await;
    let ping_and_close = [0x89, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0];
    let handshake = format!("GET /ws/wall-street HTTP/1.1\r\nHost: x\r\n{UPGRADE}");
    let bytes = [handshake.as_bytes(), &ping_and_close].concat();
    let answer = raw_http(server.addr, bytes).await.read_to_end().await;
    assert!(answer.contains("\r\n\r\n") && answer.contains("\u{2}hi"), "{answer:?}");
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("content-length"), "{answer}");
}

#[tokio::test]
async fn a_stream_request_with_two_ends_is_refused() {
    let (database, server) = serving().await;
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /sse HTTP/1.1\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 30\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n",
    ] {
        for path in ["/sse/crash", "/ws/crash"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{framing}");
            let answer = raw_http(server.addr, request).await.read_to_end().await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), usize::from(!answer.is_empty()));
        }
    }
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    client.rounds_until(round).await;
}

#[tokio::test]
async fn head_grants_no_stream_and_keeps_the_connection() {
    let (_database, server) = serving().await;
    let head = "HEAD /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = raw_http(server.addr, [head, HEALTH].concat()).await;
    let answers = client.read_until("\"ok\"}").await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert!(!answers.contains("retry:"), "{answers}");
}

#[tokio::test]
async fn a_full_server_says_so_before_any_upgrade_and_counts_it() {
    let (name, per_address) =
        ("DATASTREAM_MAX_CONNECTIONS", "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS");
    for limit in [name, per_address, "DATASTREAM_MAX_CONNECTS_PER_SECOND"] {
        let database = TestDatabase::new().await;
        let server = TestServer::on(database.url()).env(limit, "1").start().await;
        let mut first = WsClient::connect(server.ws("/ws/crash")).await;
        let full = get(&server.http("/sse/crash")).await;
        full.assert_problem(503);
        let seconds: u32 = full.header("retry-after").parse().expect("seconds");
        assert!((1..=10).contains(&seconds));
        let status = WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.err();
        assert_eq!(status, Some(503), "{limit}");
        let metrics = get(&server.http("/metrics")).await.body;
        assert!(metrics.contains("\ndatastream_connections_refused_total 2\n"), "{metrics}");
        let round = database.finish("crash", "{}").await;
        assert_eq!(first.next_round().await.round_id, round);
        first.close().await;
        eventually("a place to be free again", || async {
            WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.ok()
        })
        .await;
    }
}
