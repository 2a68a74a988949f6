//! Request bodies: Envoy, linkerd and other proxies send the empty body of a GET in chunks.

use testkit::{raw_http, serving};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn an_empty_body_is_none_on_every_route_and_keeps_the_connection() {
    let (_database, server) = serving().await;
    for empty in [
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n000;name=value\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n0\r\nx-sum: 1\r\n\r\n",
        "Content-Length: 0\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ] {
        for path in ["/healthz", "/readyz", "/metrics", "/games", "/rounds/crash", "/"] {
            for method in ["GET", "HEAD"] {
                let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{empty}{HEALTH}");
                let mut client = raw_http(server.addr, &request).await;
                let answers = client.read_until("{\"status\":\"ok\"}").await;
                let answers = match path {
                    "/healthz" if method == "GET" => {
                        answers + &client.read_until("{\"status\":\"ok\"}").await
                    }
                    _ => answers,
                };
                let found = answers.matches("HTTP/1.1 200 OK\r\n").count();
                assert_eq!(found, 2, "{answers} to {request}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_opens_after_an_empty_body_in_chunks() {
    let (database, server) = serving().await;
    let round = database.finish_streamed(&server, "crash", "{}").await;
    for empty in ["\r\n0\r\n\r\n", "Expect: 100-continue\r\n\r\n0\r\n\r\n"] {
        let head = "Host: x\r\nTransfer-Encoding: chunked\r\n";
        let events = format!("GET /sse/crash HTTP/1.1\r\n{head}{empty}");
        let mut client = raw_http(server.addr, events).await;
        client.read_until(&format!("id: {round}\n")).await;
        let socket = format!("GET /ws/crash HTTP/1.1\r\n{UPGRADE}{head}{empty}");
        let mut client = raw_http(server.addr, socket).await;
        let answer = client.read_until(&format!("\"round_id\":{round},")).await;
        assert!(answer.contains("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_stream_opens_when_the_end_of_the_empty_body_arrives_late() {
    let (database, server) = serving().await;
    let round = database.finish_streamed(&server, "crash", "{}").await;
    let head = "GET /sse/crash HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = raw_http(server.addr, head).await;
    // Another connection's answer shows that the server waits for the rest.
    raw_http(server.addr, HEALTH).await.read_until("\"ok\"}").await;
    client.send("0\r\n\r\n").await;
    client.read_until(&format!("id: {round}\n")).await;
}

#[tokio::test]
async fn a_body_is_refused_and_the_connection_closed() {
    let (_database, server) = serving().await;
    for body in [
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx",
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 1000000000000\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ] {
        for line in ["GET /healthz", "GET /sse/crash", "GET /ws/crash", "POST /games"] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{body}");
            let answer = raw_http(server.addr, &request).await.read_to_end().await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer} to {request}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_is_refused() {
    let (_database, server) = serving().await;
    let request =
        "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n";
    let answer = raw_http(server.addr, request).await.read_to_end().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
