//! The internal listener, and the name of the server.

use std::net::SocketAddr;

use testkit::{
    Signer, TestDatabase, TestServer, WsClient, get, http::try_get, raw_http, token::SECRET,
};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server with an internal listener, and its address.
async fn with_internal(settings: &[(&str, &str)]) -> (TestDatabase, TestServer, String) {
    let database = TestDatabase::new().await;
    let mut server = TestServer::on(database.url()).env("DATASTREAM_INTERNAL_ADDR", "127.0.0.1:0");
    for (name, value) in settings {
        server = server.env(name, value);
    }
    let server = server.start().await;
    let line = server.logs("internal.addr=").await;
    let (_, rest) = line.split_once("internal.addr=").expect("an address");
    let address = rest.split_whitespace().next().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    (database, server, format!("http://{address}"))
}

#[tokio::test]
async fn metrics_are_on_the_internal_listener_alone_and_health_is_on_both() {
    let settings = [("DATASTREAM_NODE", "edge-1"), ("DATASTREAM_AUTH_SECRET", SECRET)];
    let (_database, server, internal) = with_internal(&settings).await;
    get(&server.http("/metrics")).await.assert_problem(404);
    let metrics = get(&format!("{internal}/metrics")).await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("\ndatastream_token_keys 1\n"), "{}", metrics.body);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&server.http(path)).await.status, 200, "{path}");
        assert_eq!(get(&format!("{internal}{path}")).await.status, 200, "{path}");
    }
    let ready = get(&format!("{internal}/readyz")).await;
    assert_eq!((&ready.json()["node"], &ready.json()["phase"]), (&"edge-1".into(), &"live".into()));
    assert!(!get(&server.http("/readyz")).await.body.contains("edge-1"));
    let starting = server.logs("starting").await;
    assert!(starting.contains("node=edge-1"), "{starting}");
    for path in ["/", "/games", "/ws", "/sse", "/nothing", "/client.js"] {
        get(&format!("{internal}{path}")).await.assert_problem(404);
    }
    assert_eq!(get(&format!("{internal}/metrics")).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn silent_connections_do_not_keep_probes_out_of_the_internal_listener() {
    let (_database, _server, internal) = with_internal(&[]).await;
    let address: SocketAddr = internal.trim_start_matches("http://").parse().expect("an address");
    let mut silent = Vec::new();
    for (number, sent) in ["", "GET /healthz HTTP/1.1\r\n", HEALTH].repeat(70).iter().enumerate() {
        let client = raw_http(address, sent).await;
        silent.push(client);
        if number % 70 == 0 {
            assert_eq!(get(&format!("{internal}/healthz")).await.status, 200, "{number}");
        }
    }
    assert_eq!(get(&format!("{internal}/readyz")).await.status, 200);
    let oldest = silent.remove(0).read_to_end().await;
    assert_eq!(oldest, "", "the oldest is closed");
}

#[tokio::test]
async fn a_host_that_is_no_authority_and_a_malformed_head_are_refused_on_both_listeners() {
    let (_database, server, internal) = with_internal(&[]).await;
    let internal: SocketAddr = internal.trim_start_matches("http://").parse().expect("an address");
    for address in [server.addr, internal] {
        for hosts in
            ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a, b\r\n", "Host: a/b\r\n"]
        {
            let request = format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n");
            let answer = raw_http(address, request).await.read_until("}").await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{hosts}: {answer}");
        }
        let answer = raw_http(address, "nonsense\r\n\r\n").await.read_to_end().await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"status\":400"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_refused_on_both_listeners_and_one_within_them_is_not() {
    let (_database, server, internal) = with_internal(&[]).await;
    let internal: SocketAddr = internal.trim_start_matches("http://").parse().expect("an address");
    let fields = |count: usize, bytes: usize| format!("X: {}\r\n", "x".repeat(bytes)).repeat(count);
    for address in [server.addr, internal] {
        let head = |fields: String| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        for allowed in [fields(1, 16_000), fields(99, 1)] {
            let answer = raw_http(address, head(allowed)).await.read_until("}").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        for refused in [fields(1, 17_000), fields(100, 1)] {
            let answer = raw_http(address, head(refused)).await.read_to_end().await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            assert!(answer.contains("more than 16 KiB, or more than 100 fields"), "{answer}");
        }
    }
}

#[tokio::test]
async fn the_internal_listener_answers_until_the_process_ends() {
    let (_database, server, internal) = with_internal(&[]).await;
    // A client that does not answer the close frame keeps the process alive for three seconds.
    let handshake = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut silent = raw_http(server.addr, handshake).await;
    silent.read_until("\r\n\r\n").await;
    server.signal("TERM");
    silent.read_until("reconnect").await;
    let ready = get(&format!("{internal}/readyz")).await;
    ready.assert_problem(503);
    assert_eq!(ready.json()["detail"], "the server is shutting down");
    assert_eq!(ready.json()["phase"], "stopping");
    assert_eq!(get(&format!("{internal}/healthz")).await.status, 200);
    assert_eq!(get(&format!("{internal}/metrics")).await.status, 200);
    assert_eq!(server.exit_code().await, Some(0));
    assert!(try_get(&format!("{internal}/healthz")).await.is_none());
}

#[tokio::test]
async fn many_silent_clients_do_not_disturb_the_streams() {
    let (database, server, internal) = with_internal(&[]).await;
    let address: SocketAddr = internal.trim_start_matches("http://").parse().expect("an address");
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(raw_http(address, "GET").await);
    }
    let mut client = WsClient::connect(server.ws("/ws")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    drop(silent);
    assert_eq!(get(&format!("{internal}/healthz")).await.status, 200);
}

#[tokio::test]
async fn the_name_of_the_server_is_in_the_names_of_its_sessions() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_NODE", "edge-1").start().await;
    let sql = "select count(*)::text from pg_stat_activity where datname = current_database() \
        and application_name = 'datastream listen edge-1'";
    assert_eq!(database.text(sql).await.as_deref(), Some("1"));
    drop(server);
    let long = "x".repeat(41);
    let run = testkit::binary::datastream(&["serve", "--node", &long]);
    let output = run.env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

#[tokio::test]
async fn with_tokens_and_no_internal_listener_metrics_need_a_token_for_everything() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET).start().await;
    get(&server.http("/metrics")).await.assert_problem(401);
    let token = Signer::hs256(SECRET).opening(&["*"]);
    assert!(server.metric_with("datastream_token_keys", &token).await.eq(&1.0));
}
