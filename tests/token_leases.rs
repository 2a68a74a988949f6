//! How long a token opens a stream: until it expires, or its key is withdrawn.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use testkit::{
    Signer, SseClient, TestDatabase, TestServer, WsClient, WtClient, eventually,
    round::ids,
    token::{SECRET, in_seconds, jwk_set},
    wait::beside,
};

const HEARTBEAT: &str = "1s";

fn on(database: &TestDatabase) -> testkit::server::Builder {
    TestServer::on(database.url())
        .env("DATASTREAM_AUTH_LEEWAY", "0s")
        .env("DATASTREAM_HEARTBEAT", HEARTBEAT)
        .env("DATASTREAM_WT_ENABLED", "true")
        .env("DATASTREAM_WT_ADDR", "127.0.0.1:0")
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
    let expires = Instant::now() + Duration::from_secs(5);
    let mut socket = web_socket(&server, &token, "").await.expect("a stream");
    let mut sse = events(&server, &token).await;
    let wt = WtClient::connect(&server, &format!("/wt?token={token}")).await;
    let mut stays = web_socket(&server, &expiring(&signer, 600), "").await.expect("a stream");
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let stays = tokio::task::spawn(async move { stays.rounds(3).await });
    let first = database.finish("crash", "{}").await;
    assert_eq!(socket.next_round().await.round_id, first);
    assert_eq!(sse.next_event().await.1.round_id, first);
    assert_eq!(wt.next_datagram().await.round_id, first);
    // First, since a client that does not read answers no pings.
    assert_eq!(socket.close_code().await, Some(4401));
    let bye = wt.next_stream().await;
    assert!(bye.starts_with("{\"type\":\"bye\","), "{bye}");
    assert_eq!(code_of(&bye), 4401);
    let (name, data) = sse.next_raw_event().await;
    assert_eq!((name.as_str(), code_of(&data)), ("bye", 4401));
    assert!(sse.ends_cleanly().await);
    assert!(Instant::now() > expires, "ended before its token");
    assert_eq!(web_socket(&server, &token, "").await.err(), Some(401));
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
    let (opened, token) = (Instant::now(), expiring(&Signer::hs256(SECRET), 0));
    let mut socket = web_socket(&server, &token, "").await.expect("within the leeway");
    assert_eq!(socket.close_code().await, Some(4401));
    assert!(opened.elapsed() > Duration::from_secs(5), "{:?}", opened.elapsed());
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
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let stays = tokio::task::spawn(async move { stays.next_round().await.round_id });
    fs::write(&path, jwk_set([&new])).expect("written");
    assert_eq!(socket.close_code().await, Some(4401));
    assert_eq!(sse.next_raw_event().await.0, "bye");
    assert!(sse.ends_cleanly().await);
    assert_eq!(code_of(&wt.next_stream().await), 4401);
    assert_eq!(web_socket(&server, &old_token, "").await.err(), Some(401));
    let round = database.finish("crash", "{}").await;
    assert_eq!(stays.await.expect("a round"), round);
}

#[tokio::test]
async fn streams_whose_tokens_expire_together_end_spread_over_a_heartbeat() {
    const STREAMS: usize = 2000;
    let database = TestDatabase::new().await;
    let server = on(&database)
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_HEARTBEAT", "4s")
        .start()
        .await;
    let token = expiring(&Signer::hs256(SECRET), 30);
    let mut streams = Vec::with_capacity(STREAMS);
    while streams.len() < STREAMS {
        let some = (0..50).map(|_| web_socket(&server, &token, ""));
        for stream in join_all(some).await {
            let mut stream = stream.expect("a stream");
            // At once, so that its pings are answered while others connect.
            streams.push(beside(async move {
                assert_eq!(stream.close_code().await, Some(4401));
                Instant::now()
            }));
        }
    }
    let ends = join_all(streams).await.into_iter().map(|end| end.expect("an end"));
    let mut ends: Vec<_> = ends.collect();
    ends.sort_unstable();
    let since = |index: usize| ends[index].duration_since(ends[0]);
    let (middle, last) = (since(STREAMS / 2), since(STREAMS - 1));
    assert!(middle > Duration::from_secs(1), "half within {middle:?}");
    assert!(last < Duration::from_secs(6), "the last after {last:?}");
    eventually("all to be gone", async || {
        let token = expiring(&Signer::hs256(SECRET), 600);
        server
            .metric_with("datastream_subscribers{transport=\"websocket\"}", &token)
            .await
            .eq(&0.0)
            .then_some(())
    })
    .await;
}
