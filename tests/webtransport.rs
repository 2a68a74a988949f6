//! Rounds over WebTransport, to a client that reads datagrams and streams.
//!
//! `tests/browser` and `tests/aioquic` test with a browser and with another implementation.

use std::sync::Arc;

use futures_util::FutureExt;
use testkit::{
    Certificate, Signer, TestDatabase, TestServer, WireRound, WsClient, WtClient, eventually, get,
    pinned::{digest, trusting},
    round::ids,
    token::SECRET,
    wait::{beside, seen_once},
    within, wt_request,
};
use wtransport::config::QuicTransportConfig;

async fn serving() -> (TestDatabase, TestServer) {
    let database = TestDatabase::new().await;
    let server = on(&database).start().await;
    (database, server)
}

fn on(database: &TestDatabase) -> testkit::server::Builder {
    TestServer::on(database.url()).web_transport()
}

/// Waits until this round is the seed of new sessions.
async fn latest(server: &TestServer, game: &str, round_id: i64) {
    let url = server.http(&format!("/rounds/{game}/latest"));
    let id = format!("\"round_id\":{round_id},");
    eventually(format!("{id} at {url}"), move || {
        let (url, id) = (url.clone(), id.clone());
        async move { get(&url).await.body.contains(&id).then_some(()) }
    })
    .await;
}

/// Waits until the latest round is a different one.
async fn latest_but(server: &TestServer, game: &str, round_id: i64) {
    let url = server.http(&format!("/rounds/{game}/latest"));
    let id = format!("\"round_id\":{round_id},");
    eventually(format!("another than {id} at {url}"), move || {
        let (url, id) = (url.clone(), id.clone());
        async move { (!get(&url).await.body.contains(&id)).then_some(()) }
    })
    .await;
}

fn lines(text: &str) -> Vec<WireRound> {
    text.lines().map(WireRound::parse).collect()
}

#[tokio::test]
async fn the_seed_is_sent_by_stream_and_later_rounds_by_datagram() {
    let (database, server) = serving().await;
    let seed = database.finish("crash", r#"{"point": "11.72"}"#).await;
    latest(&server, "crash", seed).await;
    let client = WtClient::connect(&server, "/wt/crash").await;
    let first = client.next_stream_round().await;
    assert_eq!((first.round_id, first.extras.as_str()), (seed, r#"{"point": "11.72"}"#));
    database.finish("double", "{}").await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_datagram().await.round_id, live);
}

#[tokio::test]
async fn with_seed_each_the_latest_rounds_come_as_lines_of_one_stream_and_with_none_there_are_none()
{
    let (database, server) = serving().await;
    let double = database.finish("double", "{}").await;
    let crash = database.finish("crash", "{}").await;
    latest(&server, "crash", crash).await;
    let each = WtClient::connect(&server, "/wt?seed=each").await;
    assert_eq!(ids(&lines(&each.next_stream().await)), [double, crash]);
    let none = WtClient::connect(&server, "/wt?seed=none").await;
    let gap = WtClient::connect(&server, "/wt?seed=each&after=999999999").await;
    assert_eq!(gap.next_stream().await, "{\"type\":\"gap\"}");
    assert_eq!(ids(&lines(&gap.next_stream().await)), [double, crash]);
    let live = database.finish("crash", "{}").await;
    for client in [each, none, gap] {
        assert_eq!(client.next_datagram().await.round_id, live);
    }
}

#[tokio::test]
async fn a_round_too_large_for_a_datagram_is_sent_on_its_own_stream() {
    let (database, server) = serving().await;
    let client = WtClient::connect(&server, "/wt").await;
    let extras = format!(r#"{{"reels": "{}"}}"#, "x".repeat(5000));
    let large = database.finish("slot", &extras).await;
    let round = client.next_stream_round().await;
    assert_eq!((round.round_id, round.extras), (large, extras));
    let small = database.finish("slot", "{}").await;
    assert_eq!(client.next_datagram().await.round_id, small);
}

/// Finishes this number of rounds in one statement.
async fn burst(database: &TestDatabase, rounds: usize) {
    let insert = format!(
        "insert into public.rounds (game_id, finished_at) select id, now() \
         from public.games, generate_series(1, {rounds}) where slug = 'crash'"
    );
    database.run(&insert).await;
}

#[tokio::test]
async fn a_burst_of_one_statement_does_not_overflow_the_datagram_buffer() {
    const BURST: usize = 2000;
    let (database, server) = serving().await;
    let seed = database.finish("crash", "{}").await;
    latest(&server, "crash", seed).await;
    let client = WtClient::connect(&server, "/wt/crash").await;
    client.next_stream_round().await;
    // Without pacing, 600 of them arrived.
    seen_once("more than half of a burst", async || {
        burst(&database, BURST).await;
        let last = database.text("select max(id)::text from public.rounds").await;
        client.datagrams_until(last.expect("rounds").parse().expect("an id")).await > BURST / 2
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_sent_in_order_on_one_stream_before_live_rounds() {
    let (database, server) = serving().await;
    let rounds = database.finish_many("crash", 200).await;
    latest(&server, "crash", rounds[199]).await;
    let path = format!("/wt/crash?after={}", rounds[0]);
    let client = WtClient::connect(&server, &path).await;
    assert_eq!(ids(&lines(&client.next_stream().await)), rounds[1..]);
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_datagram().await.round_id, live);
}

#[tokio::test]
async fn no_round_is_lost_or_repeated_between_replay_and_live_rounds() {
    let (database, server) = serving().await;
    let first = database.finish("crash", "{}").await;
    latest(&server, "crash", first).await;
    let game = database.clone();
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let play = beside(async move {
        while is_over.is_empty() {
            game.finish("crash", "{}").await;
        }
    });
    latest_but(&server, "crash", first).await;
    let path = format!("/wt/crash?after={first}");
    for _ in 0..5 {
        let client = WtClient::connect(&server, &path).await;
        let mut seen = ids(&lines(&client.next_stream().await));
        for _ in 0..10 {
            seen.push(client.next_datagram().await.round_id);
        }
        let expected: Vec<i64> = (first + 1..).take(seen.len()).collect();
        assert_eq!(seen, expected);
    }
    over.send(()).expect("a game that goes on");
    play.await.expect("the game");
}

#[tokio::test]
async fn a_resumed_session_starts_with_a_stream_even_for_an_empty_replay() {
    let (database, server) = serving().await;
    let round = database.finish("slot", "{}").await;
    latest(&server, "slot", round).await;
    let client = WtClient::connect(&server, &format!("/wt/slot?after={round}")).await;
    assert_eq!(client.next_stream().await, "", "the replay");
    let extras = format!(r#"{{"reels": "{}"}}"#, "x".repeat(5000));
    let large = database.finish("slot", &extras).await;
    assert_eq!(client.next_stream_round().await.round_id, large);
}

#[tokio::test]
async fn an_unknown_resume_point_is_reported_before_the_seed() {
    let (database, server) = serving().await;
    let seed = database.finish("crash", "{}").await;
    latest(&server, "crash", seed).await;
    let client = WtClient::connect(&server, "/wt/crash?after=999999").await;
    assert_eq!(client.next_stream().await, r#"{"type":"gap"}"#);
    assert_eq!(client.next_stream_round().await.round_id, seed);
}

#[tokio::test]
async fn requests_that_http_refuses_are_refused() {
    let (_database, server) = serving().await;
    for path in ["/wt/chess", "/wt/type/board", "/elsewhere", "/wt?after=%FF"] {
        assert!(WtClient::try_connect(&server, path).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn a_stopping_server_sends_bye_and_closes_cleanly() {
    let (database, server) = serving().await;
    let seed = database.finish("crash", "{}").await;
    latest(&server, "crash", seed).await;
    let client = WtClient::connect(&server, "/wt/crash").await;
    client.next_stream().await;
    server.signal("TERM");
    let bye: serde_json::Value =
        serde_json::from_str(&client.next_stream().await).expect("an object");
    assert_eq!((&bye["type"], &bye["code"]), (&"bye".into(), &1001.into()));
    let ended = within("the close", client.connection.closed()).await.to_string();
    assert!(ended.contains("1001"), "{ended}");
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_stop_during_a_burst_is_announced() {
    let (database, server) = serving().await;
    let client = WtClient::connect(&server, "/wt/crash").await;
    // The buffer of this client is full after 230 rounds and stays full.
    WtClient::vanish(&server, "/wt/crash");
    server.counts("datastream_subscribers{transport=\"webtransport\"} 2").await;
    burst(&database, 20_000).await;
    // The first thousand are captured alone, the rest while they are sent.
    while client.next_datagram().await.round_id < 1500 {}
    server.signal("TERM");
    let bye = client.next_stream().await;
    assert!(bye.starts_with(r#"{"type":"bye","code":1001,"#), "{bye}");
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn open_sessions_are_counted() {
    let (_database, server) = serving().await;
    let open = |count: i64| {
        let url = server.http("/metrics");
        let line = format!("datastream_subscribers{{transport=\"webtransport\"}} {count}\n");
        eventually(line.clone(), move || {
            let (url, line) = (url.clone(), line.clone());
            async move { get(&url).await.body.contains(&line).then_some(()) }
        })
    };
    let client = WtClient::connect(&server, "/wt").await;
    open(1).await;
    client.connection.close(0_u32.into(), b"");
    open(0).await;
}

#[tokio::test]
async fn a_round_counts_as_written_when_its_stream_accepted_it() {
    let (database, server) = serving().await;
    let client = WtClient::connect(&server, "/wt").await;
    server.counts("datastream_subscribers{transport=\"webtransport\"} 1").await;
    // More than a connection buffers without an acknowledgement.
    let extras = format!(r#"{{"reels": "{}"}}"#, "x".repeat(1_000_000));
    let large = database.finish("slot", &extras).await;
    assert_eq!(client.next_stream_round().await.round_id, large);
    server.counts("datastream_rounds_written_total{transport=\"webtransport\"} 1").await;
}

/// A session of a client that accepts no streams of the server, beyond the first few.
async fn stalled(server: &TestServer) -> wtransport::Connection {
    let certificate = Certificate::of(server).await;
    let mut config = trusting(certificate.hash()).build();
    let mut transport = QuicTransportConfig::default();
    transport.max_concurrent_uni_streams(6_u8.into());
    config.quic_config_mut().transport_config(Arc::new(transport));
    let client = wtransport::Endpoint::client(config).expect("an endpoint");
    within("a session", client.connect(certificate.url.as_str())).await.expect("a session")
}

#[tokio::test]
async fn sessions_that_accept_no_streams_hold_no_more_than_the_memory_for_queues() {
    let database = TestDatabase::new().await;
    let server = on(&database).env("DATASTREAM_MEMORY", "64MiB").start().await;
    let mut steady = WsClient::connect(server.ws("/ws/slot?seed=none")).await;
    let extras = format!(r#"{{"reels": "{}"}}"#, "x".repeat(600_000));
    let mut sessions = Vec::new();
    // Each holds other rounds than those before it.
    for _ in 0..8 {
        sessions.push(stalled(&server).await);
        for _ in 0..12 {
            let round = database.finish("slot", &extras).await;
            assert_eq!(steady.next_round().await.round_id, round);
        }
    }
    let used = server.metric("datastream_memory_used_bytes{kind=\"queues\"}").await;
    assert!(used <= f64::from(16 << 20), "{used}");
    let dropped =
        server.metric("datastream_rounds_dropped_total{transport=\"webtransport\"}").await;
    assert!(dropped > 0.0, "{dropped}");
}

/// A new stream of the client, and the bytes that it can send on it before the server takes some; `None`
/// if it can open no stream.
fn sent_at_once(connection: &wtransport::Connection) -> Option<(wtransport::SendStream, usize)> {
    let opening = connection.open_uni().now_or_never()?.expect("a stream");
    let (mut stream, mut sent) = (opening.now_or_never()?.expect("a stream"), 0);
    while let Some(written) = stream.write(&[0; 1024]).now_or_never() {
        sent += written.expect("a write");
    }
    Some((stream, sent))
}

#[tokio::test]
async fn a_client_cannot_send_more_than_the_server_keeps() {
    let (database, server) = serving().await;
    let session = WtClient::connect(&server, "/wt/crash").await;
    let (mut streams, mut sent) = (Vec::new(), 0);
    while let Some((stream, bytes)) = sent_at_once(&session.connection) {
        streams.push(stream);
        sent += bytes;
        assert!(streams.len() <= 16, "{} streams", streams.len());
    }
    assert!(sent > 0 && sent <= 32 * 1024, "{sent} bytes on {} streams", streams.len());
    for _ in 0..10_000 {
        session.connection.send_datagram([0; 1000]).expect("a datagram");
    }
    let round = database.finish("crash", "{}").await;
    assert_eq!(session.next_datagram().await.round_id, round);
}

#[tokio::test]
async fn refusals_have_the_header_fields_of_the_other_transports() {
    let database = TestDatabase::new().await;
    let server = on(&database)
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_MAX_CONNECTIONS", "1")
        .start()
        .await;
    let signer = Signer::hs256(SECRET);
    let (crash, all) = (signer.opening(&["game:crash"]), signer.opening(&["*"]));
    for (path, status, challenge) in [
        ("/wt".to_owned(), 401, "Bearer"),
        ("/wt?token=".to_owned(), 401, "Bearer error=\"invalid_token\""),
        ("/wt?token=nonsense".to_owned(), 401, "Bearer error=\"invalid_token\""),
        (format!("/wt?token={crash}"), 403, "Bearer error=\"insufficient_scope\""),
        (format!("/wt/nothing?token={all}"), 404, ""),
        ("/wt?after=%FF".to_owned(), 400, ""),
    ] {
        let answer = wt_request(&server, &path, &[]).await;
        assert_eq!(
            (answer.status, answer.field("www-authenticate")),
            (status, challenge),
            "{path}"
        );
    }
    let bearer = format!("Bearer {all}");
    let _stream = WtClient::connect(&server, &format!("/wt?token={all}")).await;
    let full = wt_request(&server, "/wt", &[("authorization", &bearer)]).await;
    let seconds: u32 = full.field("retry-after").parse().expect("seconds");
    assert!(full.status == 429 && (1..=10).contains(&seconds), "{full:?}");
}

#[tokio::test]
async fn the_certificate_route_returns_the_current_and_next_hash_and_the_url() {
    let (_database, server) = serving().await;
    let told = Certificate::of(&server).await;
    assert_eq!(told.algorithm, "sha-256");
    assert!(told.next.is_some() && told.next != told.value);
    assert!(told.not_after.ends_with('Z'), "{}", told.not_after);
    assert!(told.url.starts_with("https://127.0.0.1:"), "{}", told.url);
    let next = told.next.as_deref().and_then(digest);
    assert!(WtClient::pinned(&told.url, next).await.is_err(), "its turn has not come");
}

#[tokio::test]
async fn without_webtransport_the_certificate_route_is_404() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    assert_eq!(get(&server.http("/wt/certificate")).await.status, 404);
}

#[tokio::test]
async fn an_invalid_certificate_fails_the_start() {
    let database = TestDatabase::new().await;
    let run = testkit::binary::datastream(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0")
        .env("DATASTREAM_WT_ENABLED", "true")
        .env("DATASTREAM_WT_CERT", "/nowhere/cert.pem")
        .env("DATASTREAM_WT_KEY", "/nowhere/key.pem");
    let output = run.run().await;
    assert_eq!(output.code, Some(2));
    for told in ["/nowhere/cert.pem", "DATASTREAM_WT_CERT"] {
        assert!(output.stderr.contains(told), "{}", output.stderr);
    }
}
