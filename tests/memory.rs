//! The memory budget: what is beyond it is refused, live streams go on, and large replays and seeds
//! are read as the client takes them.

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, database_alone, eventually, get, http::raw_http,
    round::ids,
};

/// Extras of so many bytes.
fn extras(bytes: usize) -> String {
    format!(r#"{{"text": "{}"}}"#, "x".repeat(bytes))
}

async fn finish_large(database: &TestDatabase, rounds: usize, bytes: usize) -> Vec<i64> {
    let insert = format!(
        "with made as (insert into rounds (game_id, finished_at, extras) \
           select g.id, now(), jsonb_build_object('text', repeat('x', {bytes})) \
           from games g, generate_series(1, {rounds}) where g.slug = 'crash' returning id) \
         select string_agg(id::text, ',' order by id) from made"
    );
    let ids = database.text(&insert).await.expect("rounds");
    ids.split(',').map(|id| id.parse().expect("an id")).collect()
}

#[tokio::test]
async fn rounds_in_memory_stay_within_their_share_and_all_reach_a_subscriber() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB").start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // Some 32 MB: each round is kept in two encodings, and history may have 8 MiB.
    let rounds = finish_large(&database, 160, 100_000).await;
    assert_eq!(ids(&client.rounds_until(rounds[159]).await), rounds);
    let history = r#"datastream_memory_used_bytes{kind="history"}"#;
    let used = server.metric(history).await;
    assert!(used > 4.0 * 1024.0 * 1024.0 && used <= 8.0 * 1024.0 * 1024.0, "{used} bytes");
    assert_eq!(server.metric("datastream_memory_limit_bytes").await, 16.0 * 1024.0 * 1024.0);
}

#[tokio::test]
async fn a_replay_larger_than_a_page_arrives_whole_and_in_order() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "2").start().await;
    let seen = database.finish_streamed(&server, "crash", "{}").await;
    let rounds = finish_large(&database, 100, 20_000).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={seen}"))).await;
    let mut events = SseClient::resume(&server.http("/sse/crash"), seen).await;
    assert_eq!(ids(&client.rounds_until(rounds[99]).await), rounds);
    assert_eq!(ids(&events.messages_until(rounds[99]).await), rounds);
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
    assert_eq!(ids(&events.messages_until(live).await), [live]);
}

#[tokio::test]
async fn more_bytes_than_the_limit_of_a_replay_are_a_gap() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_HISTORY", "2")
        .env("DATASTREAM_RESUME_BYTES", "64KiB")
        .start()
        .await;
    let seen = database.finish_streamed(&server, "crash", "{}").await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut rounds = Vec::new();
    // Each in its own transaction: a replay from the database begins with that of the named round.
    for _ in 0..20 {
        rounds.push(database.finish("crash", &extras(10_000)).await);
    }
    client.rounds_until(rounds[19]).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={seen}"))).await;
    assert_eq!(client.close_code().await, Some(4410));
    let after = rounds[15];
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={after}"))).await;
    assert_eq!(ids(&client.rounds(4).await), rounds[16..]);
}

#[tokio::test]
async fn a_large_seed_arrives_whole() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    let text = extras(500_000);
    let seed = database.finish_streamed(&server, "crash", &text).await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, round.extras.len()), (seed, text.len()));
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let (name, round) = events.next_event().await;
    assert_eq!((name.as_str(), round.round_id, round.extras.len()), ("initial", seed, text.len()));
    let live = database.finish("crash", "{}").await;
    assert_eq!(ids(&events.messages_until(live).await), [live]);
}

#[tokio::test]
async fn lists_beyond_their_memory_are_503_and_streams_go_on() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB").start().await;
    finish_large(&database, 100, 9_000).await;
    let request = "GET /rounds/crash?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n";
    // Lists have 2 MiB. This one has 900 KB, and nobody reads it.
    let mut unread = raw_http(server.addr, request).await;
    unread.read_until("HTTP/1.1 200").await;
    let lists = get(&server.http("/rounds/crash")).await;
    lists.assert_problem(503);
    let refused = r#"datastream_memory_refused_total{kind="lists"}"#;
    assert!(server.metric(refused).await >= 1.0);
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let live = database.finish("crash", "{}").await;
    client.rounds_until(live).await;
    drop(unread);
    let url = server.http("/rounds/crash?limit=1");
    eventually("a list again", || async { (get(&url).await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn no_round_of_a_database_that_was_dropped_and_made_again_is_seen() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws")).await;
    let old = finish_large(&database, 50, 10).await;
    live.rounds_until(old[49]).await;
    let database = database.make_again().await;
    server.counts("datastream_listener_connects_total 2").await;
    server.ready().await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(live.next_round().await.round_id, first);
    let latest = get(&server.http("/rounds/crash/latest")).await.json();
    assert_eq!(latest["round_id"], first);
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, first);
    let gone = old[40];
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={gone}"))).await;
    assert_eq!(client.close_code().await, Some(4410));
}
