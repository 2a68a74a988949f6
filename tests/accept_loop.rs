//! The hand-off of a stream's socket: requests before it, bytes after it, invalid requests.

use reqwest::Method;

use testkit::{
    TestDatabase, TestServer, WsClient, eventually, get, http::request, raw_http, serving,
};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_stream_may_follow_other_requests_on_the_same_connection() {
    let (database, server) = serving().await;
    let mut client = raw_http(server.addr, HEALTH).await;
    client.read_until("\"ok\"}").await;
    client.send("GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.read_until("\n\n\r\n").await;
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
async fn frames_sent_with_the_handshake_are_read() {
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
async fn a_stream_request_with_two_body_lengths_is_refused() {
    let (database, server) = serving().await;
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /sse HTTP/1.1\r\n\r\n",
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
async fn a_length_beside_an_empty_body_in_chunks_hides_no_request() {
    let (database, server) = serving().await;
    let round = database.finish_streamed(&server, "crash", "{}").await;
    let both = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let request = format!("GET /sse/crash HTTP/1.1\r\nHost: x\r\n{both}{HEALTH}");
    let mut client = raw_http(server.addr, request).await;
    client.read_until(&format!("id: {round}\n")).await;
    let live = database.finish("crash", "{}").await;
    let rest = client.read_until(&format!("id: {live}\n")).await;
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{both}{HEALTH}");
    let answers = raw_http(server.addr, request).await.read_to_end().await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1, "{answers}");
}

#[tokio::test]
async fn a_handshake_in_absolute_form_is_the_same_socket() {
    let (_database, server) = serving().await;
    let handshake = format!("GET ws://elsewhere/ws/crash HTTP/1.1\r\nHost: x\r\n{UPGRADE}");
    let head = raw_http(server.addr, handshake).await.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn an_incomplete_request_head_times_out() {
    let (_database, server) = serving().await;
    let half = "GET /sse/crash HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let later = [HEALTH, half].concat();
    let (first, second) = tokio::join!(raw_http(server.addr, half), raw_http(server.addr, later));
    let (first, second) = tokio::join!(first.read_to_end(), second.read_to_end());
    assert!(first.is_empty() || first.starts_with("HTTP/1.1 4"), "{first}");
    assert!(second.starts_with("HTTP/1.1 200") && !second.contains("event-stream"), "{second}");
}

#[tokio::test]
async fn a_request_that_is_too_large_opens_no_stream() {
    let (_database, server) = serving().await;
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    for request in [
        format!("GET /sse/crash?after={} HTTP/1.1\r\nHost: x\r\n\r\n", "1".repeat(70_000)),
        format!("GET /sse/crash HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
        format!("GET /sse/crash HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        format!("GET /ws/crash HTTP/1.1\r\nHost: x\r\n{many}{UPGRADE}"),
    ] {
        let answer = raw_http(server.addr, request).await.read_to_end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(!answer.contains("event-stream"), "{answer}");
    }
}

#[tokio::test]
async fn a_malformed_request_opens_no_stream() {
    let (_database, server) = serving().await;
    for request in [
        "GET /sse/crash\r\n\r\n",
        "GET  /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /sse/crash HTTP/2.0\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /sse/crash HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /sse/crash HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n",
        "GET /sse/crash HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /sse/crash HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        "GET /sse/crash HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        "G\u{e9}T /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT /sse/crash HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw_http(server.addr, request).await.read_to_end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer} to {request:?}");
    }
}

#[tokio::test]
async fn http_1_0_gets_events_up_to_the_close_and_no_upgrade() {
    let (database, server) = serving().await;
    let request = "GET /sse/crash HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut client = raw_http(server.addr, request).await;
    let head = client.read_until("\n\n").await.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.0 200 ok\r\n") && head.contains("connection: close"),
        "{head}"
    );
    assert!(!head.contains("chunked") && !head.contains("content-length"), "{head}");
    let round = database.finish("crash", "{}").await;
    let event = client.read_until(&format!("id: {round}\n")).await;
    assert!(event.contains("\nevent: "), "a chunk's size is in the way: {event}");
    let handshake = format!("GET /ws/crash HTTP/1.0\r\nHost: x\r\n{UPGRADE}");
    let answer = raw_http(server.addr, handshake).await.read_until("\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 4") || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_request_hidden_in_the_body_of_another_opens_no_stream() {
    let (_database, server) = serving().await;
    let hidden = "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";
    let size = hidden.len();
    for framing in [
        format!("Content-Length: {size}\r\n\r\n"),
        format!("Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {size}\r\n\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n"),
        "Transfer-Encoding: identity\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n\r\n".to_owned(),
        format!("Content-Length: +{size}\r\n\r\n"),
        format!("Content-Length: {size}, {size}\r\n\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {size}\r\n\r\n"),
    ] {
        for line in ["POST /healthz", "GET /healthz", "GET /sse/none", "GET /ws/crash"] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{framing}{hidden}");
            let answer = raw_http(server.addr, &request).await.read_to_end().await;
            assert!(!answer.contains("event-stream"), "{answer} to {request}");
            let answers = answer.matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{answer} to {request}");
            // An empty body in chunks is none, whatever its announced length. The connection closes
            // after the answer (RFC 9112 section 6.1).
            if !framing.contains("\r\n\r\n0\r\n\r\n") {
                assert!(!answer.starts_with("HTTP/1.1 2"), "{answer} to {request}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_request_opens_no_stream_and_keeps_the_connection() {
    let (_database, server) = serving().await;
    let head = "HEAD /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = raw_http(server.addr, [head, HEALTH].concat()).await;
    let answers = client.read_until("\"ok\"}").await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert!(!answers.contains("retry:"), "{answers}");
}

#[tokio::test]
async fn a_full_server_answers_503_before_any_upgrade_and_counts_it() {
    for limit in ["DATASTREAM_MAX_CONNECTIONS", "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS"] {
        let database = TestDatabase::new().await;
        let server = TestServer::on(database.url()).env(limit, "1").start().await;
        let mut first = WsClient::connect(server.ws("/ws/crash")).await;
        let full = get(&server.http("/sse/crash")).await;
        full.assert_problem(503);
        let seconds: u32 = full.header("retry-after").parse().expect("seconds");
        assert!((1..=10).contains(&seconds));
        // A page learns from it why its WebSocket was refused.
        let head = request(&Method::HEAD, &server.http("/sse/crash"), &[]).await;
        assert_eq!(head.status, 503);
        assert_eq!(head.header("content-type"), "application/problem+json");
        assert!(!head.header("retry-after").is_empty());
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

#[tokio::test]
async fn an_event_source_beyond_the_connects_of_a_second_gets_a_delay_and_the_end() {
    let database = TestDatabase::new().await;
    let one = ("DATASTREAM_MAX_CONNECTS_PER_SECOND", "1");
    let server = TestServer::on(database.url()).env(one.0, one.1).start().await;
    let ask = async || {
        let request = "GET /sse/crash HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
        let mut client = raw_http(server.addr, request).await;
        (client.read_until("\n\n").await, client)
    };
    let (answer, client) = eventually("two connects in a second", || async {
        Some(ask().await).filter(|(answer, _)| !answer.contains(": open"))
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: text/event-stream\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let (retry, why) = body.split_once('\n').expect("a line");
    let delay = retry.strip_prefix("retry: ").and_then(|delay| delay.parse().ok());
    assert!(delay.is_some_and(|delay: u32| (1500..=2500).contains(&delay)), "{body:?}");
    assert_eq!(why, ": too many streams were opened within a second\n\n");
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn more_connects_in_a_second_than_allowed_are_refused_and_counted() {
    let database = TestDatabase::new().await;
    let one = ("DATASTREAM_MAX_CONNECTS_PER_SECOND", "1");
    let server = TestServer::on(database.url()).env(one.0, one.1).start().await;
    let ask = async || {
        let mut client = raw_http(server.addr, "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.read_until("\r\n\r\n").await
    };
    let refused = eventually("two connects in a second", || async {
        Some(ask().await).filter(|head| !head.starts_with("HTTP/1.1 200"))
    })
    .await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.to_ascii_lowercase().contains("\r\nretry-after: "), "{refused}");
    server.counts("datastream_connections_refused_total 1").await;
    eventually("the next second", || async {
        ask().await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}
