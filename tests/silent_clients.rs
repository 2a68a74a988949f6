//! Clients that connect and send no complete request, or send nothing more after one. They are
//! bounded, and other clients do not notice them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use testkit::{
    QuicClient, TestDatabase, TestServer, WsClient, WtClient, binary::datastream, eventually, get,
    raw_http, serving, within,
};

/// Half of the time after which the server closes silent connections: no answer waits for that.
const HEALTH_MAX: Duration = Duration::from_secs(5);
/// What the server promises. A machine that other tests load may exceed it once, but not five times.
const HEALTH_PROMISED: Duration = Duration::from_secs(1);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(TcpStream::connect(address).await.expect("a connection"));
    }
    clients
}

/// Whether the server has closed this connection.
fn is_closed(client: &TcpStream) -> bool {
    match client.try_read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn still_open(clients: &[TcpStream]) -> usize {
    clients.iter().filter(|client| !is_closed(client)).count()
}

async fn assert_healthy(server: &TestServer) {
    let mut fastest = HEALTH_MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let health = async { raw_http(server.addr, HEALTH).await.read_until("\"ok\"}").await };
        let health = timeout(HEALTH_MAX, health).await.expect("an answer before they are closed");
        assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < HEALTH_PROMISED, "{fastest:?}");
}

async fn assert_streams(database: &TestDatabase, server: &TestServer) {
    let mut stream = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    stream.rounds_until(round).await;
}

#[tokio::test]
async fn four_thousand_silent_connections_stop_neither_health_checks_nor_new_streams() {
    rlimit::increase_nofile_limit(u64::MAX).expect("more files");
    let database = TestDatabase::new().await;
    let run = datastream(&[]);
    let mut command = tokio::process::Command::new("sh");
    let program = run.command.as_std().get_program().to_owned();
    command.args(["-c", "ulimit -n 1024; exec \"$0\" serve"]).arg(program).env_clear();
    command.env("DATABASE_URL", database.url()).env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    let server = TestServer::spawn({
        command.kill_on_drop(true).current_dir("/");
        command
    })
    .await;
    server.ready().await;
    let clients = silent(server.addr, 4000).await;
    assert_healthy(&server).await;
    assert!(still_open(&clients) <= 1024);
    assert_streams(&database, &server).await;
    assert!(server.metric("datastream_pending_closed_total{state=\"no_request\"}").await > 2000.0);
}

#[tokio::test]
async fn at_most_1024_keep_alive_connections_stay_open_and_hold_little_memory() {
    rlimit::increase_nofile_limit(u64::MAX).expect("more files");
    let (database, server) = serving().await;
    let before = server.metric("process_resident_memory_bytes").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let group = silent(server.addr, 100).await;
        clients.extend(join_all(group.into_iter().map(answered)).await);
    }
    let after = server.metric("process_resident_memory_bytes").await;
    assert!(still_open(&clients) <= 1024);
    assert!(after - before <= 50e6, "{before} bytes before, {after} after");
    assert_healthy(&server).await;
    assert_streams(&database, &server).await;
}

/// The connection after one request and its response.
async fn answered(mut client: TcpStream) -> TcpStream {
    client.write_all(HEALTH.as_bytes()).await.expect("a request");
    let mut response = [0; 512];
    let read = within("a response", client.read(&mut response)).await.expect("a response");
    assert!(response[..read].starts_with(b"HTTP/1.1 200"));
    client
}

#[tokio::test]
async fn a_connection_without_a_request_counts_and_the_oldest_is_closed_first() {
    for limit in ["DATASTREAM_MAX_CONNECTIONS", "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS"] {
        let database = TestDatabase::new().await;
        let server = TestServer::on(database.url()).env(limit, "5").start().await;
        let clients = silent(server.addr, 5).await;
        let mut stream = WsClient::connect(server.ws("/ws/crash")).await;
        eventually("the oldest to be closed", || async { is_closed(&clients[0]).then_some(()) })
            .await;
        assert!(still_open(&clients) <= 4, "{limit}");
        let round = database.finish("crash", "{}").await;
        stream.rounds_until(round).await;
        server.counts("datastream_connections_refused_total 0").await;
    }
}

#[tokio::test]
async fn a_request_in_pieces_over_a_kept_connection_is_answered() {
    let (_database, server) = serving().await;
    let mut client = raw_http(server.addr, HEALTH).await;
    client.read_until("\"ok\"}").await;
    // The second request arrives with half of the third.
    client.send([HEALTH, &HEALTH[..20]].concat()).await;
    client.read_until("\"ok\"}").await;
    client.send(&HEALTH[20..]).await;
    client.read_until("\"ok\"}").await;
}

#[tokio::test]
async fn a_connection_whose_client_leaves_a_stream_header_incomplete_is_counted() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).web_transport().start().await;
    let connection = QuicClient::of(&server).await.connect().await;
    let mut stream = connection.open_uni().await.expect("a stream");
    // The first of two bytes of a stream type (RFC 9000 section 16).
    stream.write_all(&[0x40]).await.expect("a write");
    server.counts("datastream_pending_connections{state=\"quic\"} 1").await;
    // After 10 s without a request the server gives it up. The library keeps it.
    server.counts("datastream_pending_connections{state=\"given_up\"} 1").await;
    WtClient::connect(&server, "/wt/crash").await;
    connection.close(0_u32.into(), b"");
    server.counts("datastream_pending_connections{state=\"given_up\"} 0").await;
}

#[tokio::test]
async fn twelve_hundred_handshakes_without_a_request_do_not_keep_sessions_out() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).web_transport().start().await;
    let client = QuicClient::of(&server).await;
    let mut connections = Vec::new();
    for _ in 0..1200 {
        connections.push(client.connect().await);
    }
    eventually("the oldest to be closed", || async { connections[0].close_reason() }).await;
    WtClient::connect(&server, "/wt/crash").await;
    let open = connections.iter().filter(|it| it.close_reason().is_none()).count();
    assert!(open <= 1024, "{open}");
}

#[tokio::test]
async fn half_heads_that_have_more_than_the_memory_for_connections_refuse_no_stream() {
    let database = TestDatabase::new().await;
    let builder = TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB");
    let server = builder.start().await;
    let mut halves = Vec::new();
    for _ in 0..200 {
        halves.push(raw_http(server.addr, "GET /sse/crash HTTP/1.1\r\n").await);
    }
    eventually("more than 4 MiB", || async {
        let used = server.metric("datastream_memory_used_bytes{kind=\"connections\"}").await;
        (used > f64::from(4 << 20)).then_some(())
    })
    .await;
    assert_streams(&database, &server).await;
    drop(halves);
}

#[tokio::test]
async fn http_1_1_without_exactly_one_host_is_a_bad_request() {
    let (_database, server) = serving().await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n"] {
        for path in ["/healthz", "/sse/crash", "/games"] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
            let answer = raw_http(server.addr, request).await.read_to_end().await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
    }
    let old = raw_http(server.addr, "GET /healthz HTTP/1.0\r\n\r\n").await.read_to_end().await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
}

#[tokio::test]
async fn too_few_open_files_end_serve_and_name_the_limit() {
    let run = datastream(&[]);
    let program = run.command.as_std().get_program().to_owned();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "ulimit -n 300; exec \"$0\" serve"]).arg(program).env_clear();
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").current_dir("/");
    let output = within("the end", command.output()).await.expect("a run");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("open files is 300") && said.contains("384"), "{said}");
}

#[tokio::test]
async fn the_public_readiness_names_nothing_of_the_database() {
    let url = "postgres://role_of_game@127.0.0.1:1/name_of_database";
    let server = TestServer::on(url).start_unready().await;
    let body = eventually("an attempt", || async {
        let answer = get(&server.http("/readyz")).await;
        assert_eq!(answer.status, 503);
        answer.body.contains("cannot connect").then_some(answer.body)
    })
    .await;
    assert!(body.contains("\"phase\":\"connecting\""), "{body}");
    for secret in ["role_of_game", "127.0.0.1", "name_of_database", "refused", "postgres://"] {
        assert!(!body.contains(secret), "{body}");
    }
}
