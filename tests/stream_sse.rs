//! Rounds as server-sent events: headers, exact bytes, heartbeats, HTTP/1.0.

use embedded_postgres::Stop;
use reqwest::Method;

use testkit::{
    DedicatedCluster, SseClient, TestDatabase, TestServer,
    cluster::{Address, free_port},
    get,
    http::request,
    raw_http, serving,
};

#[tokio::test]
async fn a_seed_is_an_initial_event_and_all_others_are_messages() {
    let (database, server) = serving().await;
    let seed = database.finish_streamed(&server, "crash", r#"{"point": "1.00"}"#).await;
    let mut client = SseClient::connect(&server.http("/sse/crash")).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", seed));
    let live = database.finish("crash", "{}").await;
    assert_eq!(testkit::round::ids(&client.messages_until(live).await), [live]);
}

#[tokio::test]
async fn an_event_stream_has_exactly_the_bytes_of_the_contract() {
    let database = TestDatabase::new().await;
    // No heartbeat between two rounds, even on a slow machine.
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", "1h").start().await;
    let first = database.finish_streamed(&server, "crash", r#"{"point": "11.72"}"#).await;
    let request = "GET /sse/crash HTTP/1.0\r\n\r\n";
    let mut client = raw_http(server.addr, request).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let start = client.read_until("}\n\n").await;
    let (retry, event) = start.split_once('\n').expect("a line");
    assert_retry(retry);
    let begins = format!("event: initial\nid: {first}\ndata: {{\"round_id\":{first},");
    assert!(event.starts_with(&begins), "{start:?}");
    let live = database.finish("crash", r#"{"point": "2.00"}"#).await;
    let event = client.read_until("}\n\n").await;
    let begins = format!("event: message\nid: {live}\ndata: {{\"round_id\":{live},");
    assert!(event.starts_with(&begins), "{event:?}");
    assert_eq!(event.matches('\n').count(), 4, "{event:?}");
}

fn assert_retry(line: &str) {
    let delay = line.strip_prefix("retry: ").and_then(|delay| delay.parse().ok());
    assert!(delay.is_some_and(|delay: u32| (1500..=2500).contains(&delay)), "{line:?}");
}

#[tokio::test]
async fn a_stream_without_an_event_begins_with_a_comment_and_its_first_event_has_the_delay() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", "100ms").start().await;
    let mut last = database.finish_streamed(&server, "double", "{}").await;
    let mut delays = Vec::new();
    for (version, game) in [("1.0", "crash"), ("1.1", "slot")] {
        for resumes in [false, true] {
            let path = if resumes { format!("/sse?after={last}") } else { format!("/sse/{game}") };
            let request = format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n");
            let mut client = raw_http(server.addr, &request).await;
            client.read_until("\r\n\r\n").await;
            let start = client.read_until("\n\n").await;
            assert!(start.trim_start_matches("8\r\n").starts_with(": "), "{start:?}");
            // A heartbeat before the first event must not split it.
            client.read_until(": heartbeat ").await;
            let live = database.finish(game, "{}").await;
            client.read_until("retry: ").await;
            let delay = client.read_until("\n").await;
            delays.push(delay.trim().parse::<u32>().expect("a delay"));
            let event = client.read_until("}\n\n").await;
            assert!(!event.contains(": heartbeat"), "{event:?}");
            let event = event.trim_start_matches("\r\n");
            assert!(event.contains(&format!("event: message\nid: {live}\n")), "{event:?}");
            last = database.finish(game, "{}").await;
            let event = client.read_until(&format!("id: {last}\n")).await;
            assert!(!event.contains("retry"), "{event:?}");
        }
    }
    assert!(delays.iter().all(|delay| (1500..=2500).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
}

#[tokio::test]
async fn no_block_of_a_stream_lacks_data_except_comments() {
    let (database, server) = serving().await;
    let first = database.finish_streamed(&server, "crash", "{}").await;
    let replayed = database.finish_many_streamed(&server, "crash", 2).await;
    for path in ["/sse/crash".to_owned(), format!("/sse/crash?after={first}"), "/sse/slot".into()] {
        let mut client = raw_http(server.addr, format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        client.read_until("\r\n\r\n").await;
        let live = database.finish("crash", "{}").await;
        let until = if path == "/sse/slot" { "\n\n".to_owned() } else { format!("id: {live}\n") };
        let text = client.read_until(&until).await;
        let blocks: Vec<_> = text.split("\n\n").filter(|block| !block.is_empty()).collect();
        let whole = &blocks[..blocks.len() - usize::from(path != "/sse/slot")];
        for block in whole {
            assert!(block.starts_with(':') || block.contains("\ndata: {"), "{block:?} of {path}");
        }
        assert_eq!(text.matches("retry: ").count(), usize::from(path != "/sse/slot"), "{text}");
    }
    assert_eq!(replayed.len(), 2);
}

#[tokio::test]
async fn a_polyfill_resumes_by_a_parameter_that_wins_over_after_and_loses_to_the_header() {
    let (database, server) = serving().await;
    let ids = database.finish_many_streamed(&server, "crash", 4).await;
    for (path, header, expected) in [
        (format!("/sse/crash?lastEventId={}", ids[1]), "", ids[2]),
        (format!("/sse/crash?after={}&lastEventId={}", ids[0], ids[2]), "", ids[3]),
        (format!("/sse/crash?lastEventId={}", ids[0]), &*ids[2].to_string(), ids[3]),
        (format!("/sse/crash?lastEventId=&after={}", ids[0]), "", ids[1]),
    ] {
        let url = server.http(&path);
        let mut client = SseClient::connect_with(&url, &[("last-event-id", header)]).await;
        let (name, round) = client.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("message", expected), "{path} {header:?}");
    }
    let (name, round) =
        SseClient::connect(&server.http("/sse/crash?lastEventId=")).await.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", ids[3]), "an empty value is none");
}

#[tokio::test]
async fn headers_are_sent_at_once_without_a_round() {
    let (_database, server) = serving().await;
    let client = SseClient::connect(&server.http("/sse/wall-street")).await;
    assert_eq!(client.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("access-control-allow-origin", "*"),
    ] {
        let found = client.headers.get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(found, Some(value), "{name}");
    }
    assert!(client.headers.contains_key("date"));
    assert!(!client.headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_head_request_returns_the_headers_without_a_stream() {
    let (database, server) = serving().await;
    database.finish("crash", "{}").await;
    let response = request(&Method::HEAD, &server.http("/sse/crash"), &[]).await;
    assert_eq!(response.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("connection", "keep-alive"),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    assert_eq!(response.body, "");
    let missing = request(&Method::HEAD, &server.http("/sse/nothing"), &[]).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn heartbeats_are_comments_with_unix_seconds() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", "100ms").start().await;
    let mut client = raw_http(server.addr, "GET /sse/crash HTTP/1.0\r\n\r\n").await;
    client.read_until(": heartbeat ").await;
    let seconds: i64 = client.read_until("\n\n").await.trim().parse().expect("a number");
    let now = chrono::Utc::now().timestamp();
    assert!((now - 20..=now).contains(&seconds), "{seconds} at {now}");
    client.read_until(": heartbeat ").await;
}

#[tokio::test]
async fn http_1_1_bodies_have_one_event_per_chunk() {
    let (database, server) = serving().await;
    let mut client =
        raw_http(server.addr, "GET /sse/type/color HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let id = database.finish("double", r#"{"color": "red", "number": 5}"#).await;
    let body = client.read_until("}\n\n\r\n").await;
    assert!(body.contains(&format!("id: {id}\n")), "{body}");
}

#[tokio::test]
async fn every_selection_streams() {
    let (database, server) = serving().await;
    for (path, game) in [
        ("/sse/crash", "crash"),
        ("/sse/type/color", "double"),
        ("/sse", "slot"),
        ("/sse?game=wall-street&type=color", "wall-street"),
    ] {
        let mut client = SseClient::connect(&server.http(path)).await;
        let id = database.finish(game, "{}").await;
        let came = loop {
            let (_, round) = client.next_event().await;
            if round.round_id == id {
                break round;
            }
        };
        assert_eq!(came.game_slug, game, "{path}");
    }
}

#[tokio::test]
async fn websocket_and_sse_clients_receive_the_same_bytes_in_the_same_order() {
    let (database, server) = serving().await;
    let mut sse = SseClient::connect(&server.http("/sse")).await;
    let mut ws = testkit::WsClient::connect(server.ws("/ws")).await;
    let ids = database.finish_many("crash", 20).await;
    let events = sse.messages_until(ids[19]).await;
    assert_eq!(events, ws.rounds(20).await);
}

#[tokio::test]
async fn a_stream_requested_during_a_catch_up_opens_after_it() {
    let mut cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    let url = Address::tcp_url(&database.name, cluster.address().tcp_port);
    cluster.stop(Stop::Fast);
    let server = TestServer::on(url).start_unready().await;
    server.unready().await;
    let mut client = raw_http(server.addr, "GET /sse/crash HTTP/1.0\r\n\r\n").await;
    cluster.start_again();
    // An EventSource stops after any status but 200.
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.contains(" 200 OK"), "{head}");
}

#[tokio::test]
async fn a_server_that_is_not_ready_tells_an_event_source_to_retry_and_others_503() {
    let nobody = format!("postgresql://postgres@127.0.0.1:{}/nothing", free_port());
    let server = TestServer::on(nobody).start_unready().await;
    let url = server.http("/sse/crash");
    let (browser, other) = tokio::join!(
        request(&Method::GET, &url, &[("accept", "text/event-stream"), ("last-event-id", "7")]),
        request(&Method::GET, &url, &[("accept", "*/*")]),
    );
    // The answer does not wait until the server is ready.
    assert_eq!(get(&server.http("/readyz")).await.status, 503);
    other.assert_problem(503);
    assert_eq!((browser.status, browser.header("content-type")), (200, "text/event-stream"));
    let why = "the stream has not caught up with the database yet";
    let (retry, rest) = browser.body.split_once('\n').expect("a line");
    assert_retry(retry);
    assert_eq!(rest, format!(": {why}\n\n"));
}
