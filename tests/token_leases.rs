//! How long a token opens a stream: until it expires, or its key is withdrawn.

use std::fs;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::mpsc;

use testkit::{
    Signer, SseClient, TestDatabase, TestServer, WsClient, WtClient, raw_http,
    round::ids,
    token::{SECRET, in_seconds, jwk_set},
    wait::beside,
    within,
};

const HEARTBEAT: &str = "1s";

fn on(database: &TestDatabase) -> testkit::server::Builder {
    TestServer::on(database.url())
        .env("DATASTREAM_AUTH_LEEWAY", "0s")
        .env("DATASTREAM_HEARTBEAT", HEARTBEAT)
        .web_transport()
}

fn expiring(signer: &Signer, seconds: i64) -> String {
    signer.token(&json!({ "exp": in_seconds(seconds), "datastream": "*" }))
}

async fn web_socket(server: &TestServer, token: &str, query: &str) -> Result<WsClient, u16> {
    let bearer = format!("Bearer {token}");
    WsClient::try_connect(&server.ws(&format!("/ws{query}")), &[("authorization", &bearer)]).await
}

async fn events(server: &TestServer, token: &str) -> SseClient {
    let bearer = format!("Bearer {token}");
    SseClient::connect_with(&server.http("/sse"), &[("authorization", &bearer)]).await
}

/// The code of a `bye`, and that it has a reason.
#[track_caller]
fn code_of(bye: &str) -> u64 {
    let bye: serde_json::Value = serde_json::from_str(bye).expect("JSON");
    assert!(bye["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{bye}");
    bye["code"].as_u64().expect("a code")
}

#[tokio::test]
async fn a_stream_ends_with_its_token_on_each_transport() {
    let database = TestDatabase::new().await;
    let server = on(&database).env("DATASTREAM_AUTH_SECRET", SECRET).start().await;
    let signer = Signer::hs256(SECRET);
    let token = expiring(&signer, 6);
    let mut socket = web_socket(&server, &token, "").await.expect("a stream");
    let mut sse = events(&server, &token).await;
    let wt = WtClient::connect(&server, &format!("/wt?token={token}")).await;
    let mut stays = web_socket(&server, &expiring(&signer, 600), "").await.expect("a stream");
    let stays = beside(async move { stays.rounds(3).await });
    let first = database.finish("crash", "{}").await;
    assert_eq!(socket.next_round().await.round_id, first);
    assert_eq!(sse.next_event().await.1.round_id, first);
    assert_eq!(wt.next_datagram().await.round_id, first);
    // First, since a client that does not read answers no pings.
    assert_eq!(socket.close_code().await, Some(4401));
    // The server would still accept the token of a stream that ended before it.
    assert_eq!(web_socket(&server, &token, "").await.err(), Some(401));
    let bye = wt.next_stream().await;
    assert!(bye.starts_with("{\"type\":\"bye\","), "{bye}");
    assert_eq!(code_of(&bye), 4401);
    let (name, data) = sse.next_raw_event().await;
    assert_eq!((name.as_str(), code_of(&data)), ("bye", 4401));
    assert!(sse.ends_cleanly().await);
    // A new token continues after the last round, without a gap.
    let missed = database.finish("crash", "{}").await;
    let query = format!("?after={first}");
    let mut resumed = web_socket(&server, &expiring(&signer, 600), &query).await.expect("a stream");
    let live = database.finish("crash", "{}").await;
    assert_eq!(ids(&resumed.rounds(2).await), [missed, live]);
    assert_eq!(ids(&stays.await.expect("rounds")), [first, missed, live]);
    server
        .counts_with(
            "datastream_sessions_closed_total{transport=\"websocket\",reason=\"token_expired\"} 1",
            &expiring(&signer, 600),
        )
        .await;
}

#[tokio::test]
async fn the_leeway_keeps_a_stream_open_longer() {
    let database = TestDatabase::new().await;
    let server = on(&database)
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_AUTH_LEEWAY", "6s")
        .start()
        .await;
    let token = expiring(&Signer::hs256(SECRET), 0);
    let mut socket = web_socket(&server, &token, "").await.expect("within the leeway");
    assert_eq!(socket.close_code().await, Some(4401));
    // The leeway has ended for new streams too: it was not cut short.
    assert_eq!(web_socket(&server, &token, "").await.err(), Some(401));
}

/// The unix seconds of the heartbeats in an event stream.
fn heartbeats(stream: &str) -> Vec<i64> {
    let seconds = stream.lines().filter_map(|line| line.strip_prefix(": heartbeat "));
    seconds.map(|seconds| seconds.parse().expect("seconds")).collect()
}

#[tokio::test]
async fn a_stream_has_no_heartbeat_after_its_token_has_expired() {
    let database = TestDatabase::new().await;
    let server = on(&database).env("DATASTREAM_AUTH_SECRET", SECRET).start().await;
    let exp = in_seconds(5);
    let token = Signer::hs256(SECRET).token(&json!({ "exp": exp, "datastream": "*" }));
    let request = format!("GET /sse HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let stream = raw_http(server.addr, request).await.read_to_end().await;
    let heartbeats = heartbeats(&stream);
    // One heartbeat is due each second: the stream ends at the first one that its token does not cover.
    assert!(heartbeats.len() > 1, "{stream}");
    assert!(heartbeats.iter().all(|seconds| *seconds < exp), "{exp}: {heartbeats:?}");
    let (_, end) = stream.rsplit_once("event: bye\n").expect("a bye");
    assert!(end.contains("4401") && end.ends_with("0\r\n\r\n"), "{end}");
}

#[tokio::test]
async fn a_withdrawn_key_ends_its_streams_and_no_others() {
    let database = TestDatabase::new().await;
    let (old, new) = (Signer::es256().named("old"), Signer::es256().named("new"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    fs::write(&path, jwk_set([&old, &new])).expect("written");
    let server = on(&database).env("DATASTREAM_AUTH_KEYS", &path).start().await;
    let (old_token, new_token) = (expiring(&old, 600), expiring(&new, 600));
    let mut socket = web_socket(&server, &old_token, "").await.expect("a stream");
    let mut sse = events(&server, &old_token).await;
    let wt = WtClient::connect(&server, &format!("/wt?token={old_token}")).await;
    let mut stays = web_socket(&server, &new_token, "").await.expect("a stream");
    let stays = beside(async move { stays.next_round().await.round_id });
    fs::write(&path, jwk_set([&new])).expect("written");
    assert_eq!(socket.close_code().await, Some(4401));
    assert_eq!(sse.next_raw_event().await.0, "bye");
    assert!(sse.ends_cleanly().await);
    assert_eq!(code_of(&wt.next_stream().await), 4401);
    assert_eq!(web_socket(&server, &old_token, "").await.err(), Some(401));
    let round = database.finish("crash", "{}").await;
    assert_eq!(stays.await.expect("a round"), round);
}

/// What a stream of many reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    /// It got a round.
    Round(i64),
    /// It ended with this code.
    End(Option<u16>),
}

/// Reports each round of a stream and its end.
async fn report(mut stream: WsClient, reports: mpsc::UnboundedSender<Report>) {
    loop {
        let report = match stream.next_round_or_code().await {
            Ok(round) => Report::Round(round.round_id),
            Err(code) => Report::End(code),
        };
        // The test may have ended.
        if reports.send(report).is_err() || matches!(report, Report::End(_)) {
            return;
        }
    }
}

#[tokio::test]
async fn streams_whose_tokens_expire_together_end_spread_over_a_heartbeat() {
    const STREAMS: usize = 2000;
    /// A heartbeat, and half of one for a loaded machine.
    const LATE_MAX: i64 = 15;
    let database = TestDatabase::new().await;
    let server = on(&database)
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_HEARTBEAT", "10s")
        .start()
        .await;
    let (signer, (reports, mut reported)) = (Signer::hs256(SECRET), mpsc::unbounded_channel());
    let exp = in_seconds(30);
    let token = signer.token(&json!({ "exp": exp, "datastream": "*" }));
    for _ in 0..STREAMS / 50 {
        let some = (0..50).map(|_| web_socket(&server, &token, ""));
        for stream in join_all(some).await {
            // At once, so that its pings are answered while others connect.
            beside(report(stream.expect("a stream"), reports.clone()));
        }
    }
    drop(reports);
    let mut next = async || within("a report", reported.recv()).await;
    assert_eq!(next().await, Some(Report::End(Some(4401))), "the first one ends");
    // The others are open, although their tokens have expired as well.
    assert_eq!(web_socket(&server, &token, "").await.err(), Some(401));
    let round = database.finish("crash", "{}").await;
    let (mut ended, mut reached) = (1, 0);
    while let Some(report) = next().await {
        match report {
            Report::Round(id) => reached += usize::from(id == round),
            Report::End(code) => {
                assert_eq!(code, Some(4401));
                ended += 1;
            }
        }
    }
    assert_eq!(ended, STREAMS);
    let late = in_seconds(0) - exp;
    assert!(late <= LATE_MAX, "the last one ended {late} s after its token");
    // A round takes milliseconds and a heartbeat ten seconds: most get it before their turn comes.
    assert!(reached > STREAMS / 2, "{reached} of {STREAMS} had not ended with the first");
    let none = "datastream_subscribers{transport=\"websocket\"} 0";
    server.counts_with(none, &expiring(&signer, 600)).await;
}
