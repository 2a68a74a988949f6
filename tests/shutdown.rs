//! Shutdown by signal, with connected clients, within the grace period.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use testkit::{
    FaultProxy, SseClient, TestDatabase, TestServer, WsClient, eventually, raw_http, serving,
    wait::seen_once,
};

const HANDSHAKE: &str = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn sigterm_closes_every_client_and_exits_with_0() {
    let (database, server) = serving().await;
    let mut websocket = WsClient::connect(server.ws("/ws/crash")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let last = database.finish("crash", "{}").await;
    assert_eq!(websocket.next_round().await.round_id, last);
    assert_eq!(events.next_event().await.1.round_id, last);
    server.signal("TERM");
    assert_eq!(websocket.close_code().await, Some(1001));
    assert!(events.ends_cleanly().await);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigint_closes_every_client_and_exits_with_0() {
    let (_database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    server.signal("INT");
    assert_eq!(client.close_code().await, Some(1001));
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_server_that_waits_for_its_database_stops_on_a_signal() {
    let nobody = testkit::cluster::free_port();
    let url = format!("postgresql://postgres@127.0.0.1:{nobody}/nothing");
    let server = TestServer::on(url).start_unready().await;
    server.signal("TERM");
    assert_eq!(server.exit_code().await, Some(0));
}

const GRACE: Duration = Duration::from_millis(450);

/// The duration of a stop with a grace period of half a second, and the log.
async fn stopped(server: TestServer) -> (Duration, String) {
    let began = Instant::now();
    server.signal("TERM");
    let (code, log) = server.last_words().await;
    assert_eq!(code, Some(0));
    (began.elapsed(), log.join("\n"))
}

async fn with_half_a_second() -> TestServer {
    let database = TestDatabase::new().await;
    TestServer::on(database.url()).env("DATASTREAM_SHUTDOWN_GRACE", "500ms").start().await
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_closed_after_the_grace_period() {
    seen_once("a stop within the grace period", async || {
        let server = with_half_a_second().await;
        let mut silent = raw_http(server.addr, HANDSHAKE).await;
        silent.read_until("\r\n\r\n").await;
        let (took, log) = stopped(server).await;
        // A client that answers does not delay the stop.
        assert!(took >= GRACE, "{took:?}\n{log}");
        // By default the server waits three seconds for its answer.
        took < Duration::from_millis(2900)
    })
    .await;
}

#[tokio::test]
async fn an_incomplete_request_is_closed_after_the_grace_period() {
    let server = with_half_a_second().await;
    let half = raw_http(server.addr, "GET /sse/crash HT").await;
    // A connection that is not accepted yet has nothing to wait for.
    server.counts(r#"datastream_pending_connections{state="no_request"} 1"#).await;
    let (_, log) = stopped(server).await;
    assert!(log.contains("did not close within the grace period"), "{log}");
    assert_eq!(half.read_to_end().await, "");
}

#[tokio::test]
async fn many_clients_are_closed_spread_over_the_grace_period() {
    // 1,000 per second, unless the grace period requires more. A late reader sees all at once.
    seen_once("600 told over time", async || closed_within().await > Duration::from_millis(150))
        .await;
}

/// The time between the first and the last close of 600 clients.
async fn closed_within() -> Duration {
    let (_database, server) = serving().await;
    let stream = "GET /sse/wall-street HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut clients = Vec::new();
    for number in 0..600 {
        let request = if number % 2 == 0 { HANDSHAKE } else { stream };
        let mut client = raw_http(server.addr, request).await;
        client.read_until("\r\n\r\n").await;
        clients.push(client);
    }
    server.signal("TERM");
    let told = clients.into_iter().map(async |client| (client.read_to_end().await, Instant::now()));
    let told = join_all(told).await;
    for (at, (words, _)) in told.iter().enumerate() {
        let web_socket = words.contains("\u{3}\u{fffd}the server is shutting down: reconnect");
        let events = words.ends_with("0\r\n\r\n");
        assert!(if at % 2 == 0 { web_socket } else { events }, "{at}: {words:?}");
    }
    assert_eq!(server.exit_code().await, Some(0));
    let (first, last) =
        (told.iter().map(|told| told.1).min(), told.iter().map(|told| told.1).max());
    last.zip(first).map(|(last, first)| last - first).expect("some")
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    // The first signal alone would end with 0 after three seconds.
    seen_once("a stop by the second signal", async || {
        let (_database, server) = serving().await;
        let mut silent = raw_http(server.addr, HANDSHAKE).await;
        silent.read_until("\r\n\r\n").await;
        server.signal("TERM");
        silent.read_until("reconnect").await;
        server.signal("TERM");
        server.exit_code().await == Some(1)
    })
    .await;
}

#[tokio::test]
async fn a_stalled_database_does_not_delay_the_stop() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.address.tcp_port).await;
    let server = TestServer::on(database.url_through(proxy.port)).start().await;
    proxy.stall();
    server.signal("TERM");
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn new_connections_are_refused_once_the_server_stops() {
    // A port without a process refuses as well.
    seen_once("connections refused by a server that runs", async || {
        let (_database, mut server) = serving().await;
        let addr = server.addr;
        // The server waits three seconds for its close frame.
        let mut silent = raw_http(addr, HANDSHAKE).await;
        silent.read_until("\r\n\r\n").await;
        server.signal("TERM");
        eventually("connections to be refused", || async {
            tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
        })
        .await;
        let refuses_while_it_runs = server.is_running();
        assert_eq!(server.exit_code().await, Some(0));
        refuses_while_it_runs
    })
    .await;
}
