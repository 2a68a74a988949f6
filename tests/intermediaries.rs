//! Requests as proxies and old clients write them.

use testkit::{raw_http, serving};

const WEBSOCKET: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn each_form_of_a_request_gets_its_status() {
    let (_database, server) = serving().await;
    let upgrade =
        |head: &str| format!("GET /ws/crash HTTP/1.1\r\nHost: x\r\n{head}\r\n{WEBSOCKET}");
    let chunked = "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
    let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
    for (request, status) in [
        ("GET http://other.example/games HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
        ("GET http://x/sse/crash HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
        ("GET /games HTTP/1.1\r\nHOST: x\r\nCONNECTION: CLOSE\r\n\r\n".to_owned(), 200),
        ("GET /games HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(), 200),
        ("GET /sse/crash HTTP/1.0\r\n\r\n".to_owned(), 200),
        ("GET /games HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), 200),
        ("GET /games HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n".to_owned(), 200),
        ("GET /games HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(), 400),
        ("GET /games HTTP/1.1\r\n\r\n".to_owned(), 400),
        // An upgrade that the server does not know is ignored (RFC 9110, 7.8).
        (
            "GET /games HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                .to_owned(),
            200,
        ),
        (format!("HEAD /sse/crash HTTP/1.1\r\nHost: x\r\n{chunked}"), 200),
        (format!("OPTIONS /games HTTP/1.1\r\nHost: x\r\n{preflight}{chunked}"), 200),
        (upgrade("Connection: close, upgrade"), 101),
        (upgrade("Connection: keep-alive\r\nConnection: Upgrade"), 101),
        (upgrade("CONNECTION: keep-alive, UPGRADE"), 101),
    ] {
        let mut client = raw_http(server.addr, &request).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert_eq!(
            answer.split(' ').nth(1),
            Some(status.to_string().as_str()),
            "{answer} to {request}"
        );
    }
}

#[tokio::test]
async fn a_connection_of_http_1_0_is_kept_if_the_client_asks() {
    let (_database, server) = serving().await;
    let kept = "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answers = raw_http(server.addr, format!("{kept}GET /healthz HTTP/1.0\r\n\r\n"));
    let answers = answers.await.read_to_end().await;
    assert_eq!(answers.matches(" 200 OK").count(), 2, "{answers}");
}
