//! The memory budget: what is beyond it is refused, live streams go on, and large replays and seeds
//! are read as the client takes them.

use std::time::Instant;

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, WtClient, database_alone, eventually, get,
    http::raw_http,
    round::{WireRound, ids},
    wt_request,
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

/// Makes a game for each of these, with a round of so many bytes that the client gets; their slugs and
/// rounds.
async fn games_with_rounds(
    database: &TestDatabase,
    client: &mut WsClient,
    sizes: impl IntoIterator<Item = usize>,
) -> Vec<(String, i64)> {
    let mut made = Vec::new();
    for (game, bytes) in sizes.into_iter().enumerate() {
        let slug = format!("large-{game}");
        let insert = format!("insert into games (slug, name, type) values ('{slug}', '', 'large')");
        database.run(&insert).await;
        let round = database.finish(&slug, &extras(bytes)).await;
        assert_eq!(client.next_round().await.round_id, round);
        made.push((slug, round));
    }
    made
}

#[tokio::test]
async fn latest_rounds_beyond_the_memory_for_history_are_still_seeds() {
    let database = TestDatabase::new().await;
    let with_little = || TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB");
    let running = with_little().start().await;
    let mut live = WsClient::connect(running.ws("/ws?seed=none")).await;
    // 24 MB in two encodings, and history may have 8 MiB.
    let games = games_with_rounds(&database, &mut live, [400_000; 30]).await;
    let started = with_little().start().await;
    for server in [running, started] {
        let used = server.metric(r#"datastream_memory_used_bytes{kind="history"}"#).await;
        assert!(used <= f64::from(8 << 20), "{used} bytes");
        let dropped = server.metric("datastream_latest_rounds_dropped").await;
        assert!((15.0..30.0).contains(&dropped), "{dropped}");
        for (slug, id) in &games {
            let mut client = WsClient::connect(server.ws(&format!("/ws/{slug}"))).await;
            assert_eq!(client.next_round().await.round_id, *id, "{slug}");
            let latest = get(&server.http(&format!("/rounds/{slug}/latest"))).await.json();
            assert_eq!(latest["round_id"], *id, "{slug}");
        }
        let mut events = SseClient::connect(&server.http("/sse/type/large")).await;
        let (name, round) = events.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", games[29].1));
        let both = format!("/ws?game={}&game={}&seed=each", games[0].0, games[1].0);
        let mut client = WsClient::connect(server.ws(&both)).await;
        assert_eq!(ids(&client.rounds(2).await), [games[0].1, games[1].1]);
    }
}

#[tokio::test]
async fn a_seed_of_each_game_with_more_than_the_memory_comes_whole_and_in_order() {
    let database = TestDatabase::new().await;
    let server = with_small_memory(&database).start().await;
    let mut live = WsClient::connect(server.ws("/ws?seed=none")).await;
    // Some 24 MB in two encodings. Replays may have 4 MiB, of which these pages are. Every fourth is small,
    // and stays in memory.
    let sizes = (0..40).map(|game| if game % 4 == 0 { 10 } else { 400_000 });
    let games = games_with_rounds(&database, &mut live, sizes).await;
    let all: Vec<i64> = games.iter().map(|(_, id)| *id).collect();
    assert!(server.metric("datastream_latest_rounds_dropped").await >= 15.0);
    let mut socket = WsClient::connect(server.ws("/ws/type/large?seed=each")).await;
    assert_eq!(ids(&socket.rounds(40).await), all);
    let mut events = SseClient::connect(&server.http("/sse/type/large?seed=each")).await;
    for id in &all {
        let (name, round) = events.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", *id));
    }
    let request = "GET /sse/type/large?seed=each HTTP/1.0\r\nHost: x\r\n\r\n";
    let text = raw_http(server.addr, request).await.read_until(&format!("id: {}\n", all[39])).await;
    assert_eq!(text.matches("\nid: ").count(), 1, "only the last one is a place to resume after");
    let session = WtClient::connect(&server, "/wt/type/large?seed=each").await;
    let stream = session.next_stream().await;
    let lines = stream.lines().map(|line| WireRound::parse(line).round_id);
    assert_eq!(lines.collect::<Vec<_>>(), all);
    // What follows is live.
    let next = database.finish("large-3", "{}").await;
    assert_eq!(socket.next_round().await.round_id, next);
    assert_eq!(ids(&events.messages_until(next).await), [next]);
    assert_eq!(session.next_datagram().await.round_id, next);
    let used = r#"datastream_memory_used_bytes{kind="replays"}"#;
    assert!(server.metric(used).await <= f64::from(4 << 20));
}

#[tokio::test]
async fn a_crowd_that_asks_for_a_wide_latest_round_costs_the_database_few_queries() {
    let database = TestDatabase::new().await;
    let server = with_small_memory(&database).start().await;
    let mut live = WsClient::connect(server.ws("/ws?seed=none")).await;
    // Wider than the 512 KiB of the cache. The largest latest round is dropped first.
    let wide = database.finish("crash", &extras(450_000)).await;
    assert_eq!(live.next_round().await.round_id, wide);
    games_with_rounds(&database, &mut live, [400_000; 30]).await;
    let (before, begun) = (server.queries().await, Instant::now());
    for _ in 0..100 {
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        assert_eq!(client.next_round().await.round_id, wide);
    }
    // What was read serves others for 5 s.
    let most = 2.0 + begun.elapsed().as_secs_f64() / 5.0;
    let queries = server.queries().await - before;
    assert!(queries <= most, "{queries} queries for 100 clients");
}

#[tokio::test]
async fn a_latest_round_that_was_deleted_from_the_database_is_replaced_by_the_one_before_it() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB").start().await;
    let mut live = WsClient::connect(server.ws("/ws?seed=none")).await;
    let before = database.finish("crash", "{}").await;
    assert_eq!(live.next_round().await.round_id, before);
    // The largest latest round is dropped first.
    let deleted = database.finish("crash", &extras(500_000)).await;
    assert_eq!(live.next_round().await.round_id, deleted);
    games_with_rounds(&database, &mut live, [400_000; 30]).await;
    database.run(&format!("delete from rounds where id = {deleted}")).await;
    for _ in 0..2 {
        let mut client = WsClient::connect(server.ws("/ws/crash")).await;
        assert_eq!(client.next_round().await.round_id, before);
    }
    assert_eq!(get(&server.http("/rounds/crash/latest")).await.json()["round_id"], before);
}

/// A server with WebTransport and 4 MiB for connections.
fn with_small_memory(database: &TestDatabase) -> testkit::server::Builder {
    TestServer::on(database.url()).env("DATASTREAM_MEMORY", "16MiB").web_transport()
}

#[tokio::test]
async fn each_kind_of_stream_takes_its_memory_and_gives_it_back() {
    let database = TestDatabase::new().await;
    let server = with_small_memory(&database).start().await;
    let used = async |kib: u32| {
        // The request for the metrics has 32 KB.
        let bytes = (kib + 32) * 1024;
        server
            .counts(&format!("datastream_memory_used_bytes{{kind=\"connections\"}} {bytes}"))
            .await;
    };
    used(0).await;
    let socket = WsClient::connect(server.ws("/ws/crash")).await;
    used(1).await;
    let events = SseClient::connect(&server.http("/sse/crash")).await;
    used(2).await;
    let session = WtClient::connect(&server, "/wt/crash").await;
    used(67).await;
    drop((socket, events, session));
    used(0).await;
}

#[tokio::test]
async fn streams_beyond_the_memory_for_connections_are_refused_and_the_others_go_on() {
    let database = TestDatabase::new().await;
    // Behind a proxy that names no client, no address has less than the whole share.
    let builder = with_small_memory(&database).env("DATASTREAM_TRUSTED_PROXIES", "127.0.0.0/8");
    let server = builder.start().await;
    let mut socket = WsClient::connect(server.ws("/ws/crash")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let mut sessions = Vec::new();
    loop {
        match WtClient::try_connect(&server, "/wt/crash").await {
            Ok(session) => sessions.push(session),
            // A busy machine may miss a handshake: the status says whether there is no memory.
            Err(_) if wt_request(&server, "/wt/crash", &[]).await.status == 429 => break,
            Err(_) => {}
        }
        assert!(sessions.len() < 63, "62 of 65 KiB have room beside two streams");
    }
    // The share is 4 MiB. A session takes 65 KiB, a stream one, and its request 32 until it is answered:
    // one that comes before that is refused.
    let (mut more, mut refused) = (Vec::new(), 0);
    while 65 * sessions.len() + 2 + more.len() + 33 <= 4096 {
        match WsClient::try_connect(&server.ws("/ws/crash"), &[]).await {
            Ok(stream) => more.push(stream),
            Err(_) => refused += 1,
        }
        assert!(refused < 100, "there is room beside {} streams", more.len());
    }
    let full = wt_request(&server, "/wt/crash", &[]).await;
    assert_eq!(full.status, 429);
    assert!(!full.field("retry-after").is_empty());
    for path in ["/sse/crash", "/sse"] {
        let full = get(&server.http(path)).await;
        full.assert_problem(503);
        assert!(!full.header("retry-after").is_empty());
    }
    assert_eq!(WsClient::try_connect(&server.ws("/ws"), &[]).await.err(), Some(503));
    let refused = r#"datastream_memory_refused_total{kind="connections"}"#;
    assert!(server.metric(refused).await >= 5.0);
    assert_eq!(get(&server.http("/readyz")).await.status, 200);
    let live = database.finish("crash", "{}").await;
    assert_eq!(socket.next_round().await.round_id, live);
    assert_eq!(ids(&events.messages_until(live).await), [live]);
    for stream in &mut more {
        assert_eq!(stream.next_round().await.round_id, live);
    }
    drop(more);
    for connection in sessions {
        assert_eq!(WtClient { connection }.next_datagram().await.round_id, live);
    }
    let url = server.http("/sse/crash");
    eventually("a stream again", || async {
        (SseClient::connect(&url).await.status == 200).then_some(())
    })
    .await;
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
