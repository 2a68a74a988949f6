//! Clients that send invalid, too much, incomplete or no data. Other clients must not be affected.

use tokio_tungstenite::tungstenite::Message;

use testkit::{
    TestDatabase, TestServer, WsClient, eventually, get, http::RawHttp, raw_http, serving,
};

const HANDSHAKE: &str = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Asserts that the server still streams to a valid client.
async fn assert_streams(database: &TestDatabase, server: &TestServer) {
    let mut client = WsClient::connect(server.ws("/ws/double")).await;
    let round = database.finish("double", "{}").await;
    client.rounds_until(round).await;
}

async fn upgraded(server: &TestServer) -> RawHttp {
    let mut client = raw_http(server.addr, HANDSHAKE).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

#[tokio::test]
async fn bytes_that_are_not_http_get_400_or_a_close() {
    let (database, server) = serving().await;
    for junk in [
        b"\0\x01\x02\x03\r\n\r\n".as_slice(),
        b"hello\r\n\r\n",
        b"GET /sse/crash HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = raw_http(server.addr, junk).await.read_to_end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    }
    assert_streams(&database, &server).await;
}

#[tokio::test]
async fn an_endless_request_head_is_refused() {
    let (database, server) = serving().await;
    let mut client = raw_http(server.addr, "GET /sse/crash HTTP/1.1\r\nHost: x\r\n").await;
    let line = format!("X-Filler: {}\r\n", "x".repeat(8_000));
    for _ in 0..200 {
        if !client.send(&line).await {
            break;
        }
    }
    let answer = client.read_to_end().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:?}");
    assert_streams(&database, &server).await;
}

/// Asserts that this answer ends with a problem of this status.
#[track_caller]
fn assert_problem(answer: &str, status: u16) {
    let start = answer.rfind("HTTP/1.1 ").expect("an answer");
    let (head, body) = answer[start..].split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    for field in ["content-type: application/problem+json", "connection: close"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {answer}");
    }
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["type", "title", "detail"] {
        assert!(problem[member].is_string(), "{member} of {problem}");
    }
}

#[tokio::test]
async fn a_head_that_is_malformed_or_too_large_is_refused_with_a_problem_body() {
    let (_database, server) = serving().await;
    let filler = |lines: usize, size: usize| {
        let lines = (0..lines).map(|line| format!("X-{line}: {}\r\n", "x".repeat(size)));
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", lines.collect::<String>())
    };
    for (request, status) in [
        ("hello\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        (filler(2, 10_000), 431),
        (filler(101, 1), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000)), 431),
        // Behind a valid request on the same connection.
        (format!("{}hello\r\n\r\n", filler(1, 1)), 400),
    ] {
        let answer = raw_http(server.addr, &request).await.read_to_end().await;
        assert_problem(&answer, status);
    }
}

#[tokio::test]
async fn an_incomplete_handshake_does_not_delay_other_clients() {
    let (database, server) = serving().await;
    let _half = raw_http(server.addr, &HANDSHAKE[..HANDSHAKE.len() / 2]).await;
    let _silent = raw_http(server.addr, "").await;
    let _slow = raw_http(server.addr, "G").await;
    assert_streams(&database, &server).await;
}

#[tokio::test]
async fn a_handshake_without_a_key_or_of_another_version_is_refused() {
    let (_database, server) = serving().await;
    for broken in [
        HANDSHAKE.replace("Sec-WebSocket-Key", "X-Key"),
        HANDSHAKE.replace("Version: 13", "Version: 8"),
        HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c"),
        HANDSHAKE.replace("GET", "POST"),
    ] {
        let answer = raw_http(server.addr, &broken).await.read_until("\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer} to {broken}");
    }
}

#[tokio::test]
async fn a_huge_frame_is_refused_by_its_header() {
    let (database, server) = serving().await;
    let mut client = upgraded(&server).await;
    // A masked binary frame that announces 2^62 bytes and contains none.
    let head = [[0x82, 0xff].as_slice(), &(1_u64 << 62).to_be_bytes(), &[1, 2, 3, 4]].concat();
    client.send(head).await;
    client.read_to_end().await;
    assert_streams(&database, &server).await;
}

#[tokio::test]
async fn a_fragmented_message_that_is_too_large_gets_1009() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    client.send(Message::binary(vec![7; 1 << 20])).await;
    assert!(matches!(client.close_code().await, Some(1009) | None));
    let mut client = upgraded(&server).await;
    // 3 fragments of 2,000 bytes, none of them final.
    for opcode in [0x02, 0x00, 0x00] {
        let head = [opcode, 0xfe, 0x07, 0xd0, 0, 0, 0, 0];
        client.send([head.as_slice(), &[0; 2000]].concat()).await;
    }
    client.read_to_end().await;
    assert_streams(&database, &server).await;
}

#[tokio::test]
async fn a_protocol_violation_ends_only_its_connection() {
    let (database, server) = serving().await;
    let long_ping = [[0x89, 0xfe, 0, 126, 0, 0, 0, 0].as_slice(), &[0; 126]].concat();
    for frame in [
        [0x81, 0x02, b'h', b'i'].as_slice(), // not masked
        &[0xf1, 0x80, 0, 0, 0, 0],           // reserved bits
        &[0x83, 0x80, 0, 0, 0, 0],           // an opcode that is not there
        &[0x81, 0x81, 0, 0, 0, 0, 0xff],     // text that is no UTF-8
        &long_ping,                          // a control frame over 125 bytes
    ] {
        let mut client = upgraded(&server).await;
        client.send(frame).await;
        client.read_to_end().await;
    }
    assert_streams(&database, &server).await;
}

#[tokio::test]
async fn invalid_notifications_are_counted_and_never_streamed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for garbage in [
        "x",
        "{}",
        "[]",
        "null",
        "42",
        "{\"round_id\":1}",
        "\u{1f3b0}",
        r#"{"xid":"x","snap":"1:1:","round_id":1,"game_id":1,"finished_at":0,"extras":"{}"}"#,
        r#"{"xid":"1","snap":"x","round_id":"1","game_id":1,"finished_at":0,"extras":"{}"}"#,
    ] {
        let notify = sqlx::query("select pg_notify('datastream_rounds', $1)").bind(garbage);
        notify.execute(&database.pool).await.expect("a notify");
    }
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    eventually("the garbage to be counted", || async {
        let metrics = get(&server.http("/metrics")).await.body;
        let name = "\ndatastream_notifications_invalid_total ";
        let count = metrics.split_once(name)?.1.split_whitespace().next()?.parse::<u32>().ok()?;
        (count >= 7).then_some(())
    })
    .await;
}

#[tokio::test]
async fn disconnected_clients_leave_no_resources_behind() {
    let (database, server) = serving().await;
    for _ in 0..50 {
        drop(WsClient::connect(server.ws("/ws/crash")).await);
        drop(raw_http(server.addr, "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n").await);
    }
    database.finish("crash", "{}").await;
    eventually("no subscriber to be left", || async {
        let metrics = get(&server.http("/metrics")).await.body;
        let open = metrics.lines().filter(|line| line.starts_with("datastream_subscribers{"));
        open.clone().all(|line| line.ends_with(" 0")).then_some(())
    })
    .await;
}
