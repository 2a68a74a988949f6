//! A client that reconnects names its last round and receives the missed ones.

use std::time::Instant;

use embedded_postgres::Stop;
use testkit::{
    DedicatedCluster, SseClient, TestDatabase, TestServer, WsClient, database_alone, eventually,
    get, round::ids, serving, serving_alone,
};

#[tokio::test]
async fn after_replays_every_later_round_once_without_a_seed() {
    let (_cluster, database, server) = serving_alone().await;
    let rounds = database.finish_many_streamed(&server, "crash", 10).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[3]))).await;
    assert_eq!(ids(&client.rounds(6).await), rounds[4..]);
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
}

#[tokio::test]
async fn last_event_id_resumes_and_overrides_after() {
    let (_cluster, database, server) = serving_alone().await;
    let rounds = database.finish_many_streamed(&server, "crash", 5).await;
    let url = server.http(&format!("/sse/crash?after={}", rounds[0]));
    let mut client = SseClient::resume(&url, rounds[2]).await;
    assert_eq!(ids(&client.messages_until(rounds[4]).await), rounds[3..]);
    let mut client = SseClient::connect(&url).await;
    assert_eq!(ids(&client.messages_until(rounds[4]).await), rounds[1..]);
}

#[tokio::test]
async fn a_resume_at_the_newest_round_replays_nothing() {
    let (database, server) = serving().await;
    database.finish("crash", "{}").await;
    let newest = database.finish_streamed(&server, "crash", "{}").await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={newest}"))).await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
}

#[tokio::test]
async fn the_resume_point_may_be_a_round_of_another_game() {
    let (database, server) = serving().await;
    let crash = database.finish("crash", "{}").await;
    let double = database.finish("double", "{}").await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/double?after={crash}"))).await;
    assert_eq!(client.next_round().await.round_id, double);
}

#[tokio::test]
async fn a_resume_point_from_before_a_restart_is_honored() {
    let (_cluster, database, server) = serving_alone().await;
    let seen = database.finish("crash", "{}").await;
    server.kill().await;
    let missed = database.finish_many("crash", 20).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={seen}"))).await;
    assert_eq!(ids(&client.rounds_until(missed[19]).await), missed);
    let mut client = SseClient::resume(&server.http("/sse"), seen).await;
    assert_eq!(ids(&client.messages_until(missed[19]).await), missed);
}

#[tokio::test]
async fn rounds_older_than_the_ring_buffer_are_replayed_from_the_database() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "4").start().await;
    let rounds = database.finish_many_streamed(&server, "crash", 50).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[0]))).await;
    assert_eq!(ids(&client.rounds_until(rounds[49]).await), rounds[1..]);
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
}

#[tokio::test]
async fn a_new_game_belongs_to_its_type_at_once() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    server.counts("datastream_reconciliations_total 1").await;
    let url = server.http("/sse/type/multiplier");
    let mut client = SseClient::connect(&url).await;
    let seen = database.finish("crash", "{}").await;
    client.messages_until(seen).await;
    let insert = "insert into games (slug, name, type) values ('rocket', 'Rocket', 'multiplier')";
    database.run(insert).await;
    let rounds = database.finish_many("rocket", 5).await;
    assert_eq!(ids(&client.messages_until(rounds[4]).await), rounds);
    let mut client = SseClient::resume(&url, seen).await;
    assert_eq!(ids(&client.messages_until(rounds[4]).await), rounds);
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_replay_loses_no_round() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "4").start().await;
    let mut steady = WsClient::connect(server.ws("/ws/crash")).await;
    let rounds = database.finish_many("crash", 10).await;
    // Its transaction is older, but it is later in the stream.
    let mut late = database.pool.begin().await.expect("a transaction");
    let insert = "insert into rounds (id, game_id, finished_at) \
        select 5000, id, now() from games where slug = 'crash'";
    sqlx::query(insert).execute(&mut *late).await.expect("an insert");
    let early = database.finish("crash", "{}").await;
    assert_eq!(steady.rounds_until(early).await.len(), 11);
    late.commit().await.expect("a commit");
    assert_eq!(steady.next_round().await.round_id, 5000);
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[0]))).await;
    let mut seen = ids(&client.rounds_until(5000).await);
    drop(client);
    let mut client = WsClient::connect(server.ws("/ws/crash?after=5000")).await;
    let last = database.finish("crash", "{}").await;
    seen.extend(ids(&client.rounds_until(last).await));
    assert_eq!(seen, [&rounds[1..], &[early, 5000, last]].concat());
}

#[tokio::test]
async fn a_resume_point_deleted_by_retention_is_a_gap() {
    let (database, server) = serving().await;
    let rounds = database.finish_many("crash", 5).await;
    server.kill().await;
    // The killed server may still be trimming, and only one session trims at a time.
    eventually("everything to be trimmed", || async {
        database.run("select datastream.trim('0', 100000)").await;
        let left = database.text("select count(*)::text from datastream.outbox").await;
        (left.as_deref() == Some("0")).then_some(())
    })
    .await;
    let latest = database.finish("crash", "{}").await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[4]))).await;
    assert_eq!(client.close_code().await, Some(4410));
    let mut client = SseClient::resume(&server.http("/sse/crash"), rounds[4]).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", latest));
}

#[tokio::test]
async fn many_clients_that_resume_after_a_restart_share_few_queries() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    let rounds = database.finish_many("crash", 40).await;
    client.rounds_until(rounds[39]).await;
    server.kill().await;
    let missed = database.finish_many("crash", 10).await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "2").start().await;
    let before = server.queries().await;
    let last = missed[9];
    let begun = Instant::now();
    // Their last rounds are forty different ones.
    let back = (0..200).map(|number| {
        let url = server.http(&format!("/sse/crash?after={}", rounds[number % 40]));
        async move { SseClient::connect(&url).await.messages_until(last).await }
    });
    for (number, replayed) in futures_util::future::join_all(back).await.into_iter().enumerate() {
        assert_eq!(ids(&replayed), [&rounds[number % 40 + 1..], &missed].concat());
    }
    let made = server.queries().await - before;
    // A page is kept for 5 s: on a busy machine, a later client causes another read.
    let most = 20.0 * (1.0 + begun.elapsed().as_secs_f64() / 5.0).floor();
    assert!(made <= most, "200 clients cost {made} queries");
}

#[tokio::test]
async fn recent_rounds_are_replayed_while_the_database_is_unavailable() {
    let mut cluster = DedicatedCluster::start();
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    let rounds = database.finish_many("crash", 5).await;
    client.rounds_until(rounds[4]).await;
    cluster.stop(Stop::Fast);
    server.unready().await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[1]))).await;
    assert_eq!(ids(&client.rounds(3).await), rounds[2..]);
    cluster.start_again();
    server.ready().await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, live);
}

#[tokio::test]
async fn another_node_honors_the_resume_point() {
    let (_cluster, database, one) = serving_alone().await;
    let two = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(one.ws("/ws/crash")).await;
    let rounds = database.finish_many_streamed(&two, "crash", 6).await;
    assert_eq!(ids(&client.rounds(3).await), rounds[..3]);
    let mut client = WsClient::connect(two.ws(&format!("/ws/crash?after={}", rounds[2]))).await;
    // Another node repeats the rounds of the last two seconds before the named one.
    let received = ids(&client.rounds_until(rounds[5]).await);
    let new: Vec<_> = received.into_iter().filter(|id| !rounds[..2].contains(id)).collect();
    assert_eq!(new, rounds[3..]);
}

#[tokio::test]
async fn an_unknown_resume_point_closes_a_websocket_with_4410() {
    let (database, server) = serving().await;
    database.finish("crash", "{}").await;
    let mut client = WsClient::connect(server.ws("/ws/crash?after=987654321")).await;
    assert_eq!(client.close_code().await, Some(4410));
}

#[tokio::test]
async fn an_unknown_resume_point_restarts_sse_with_initial() {
    let (database, server) = serving().await;
    let latest = database.finish_streamed(&server, "crash", "{}").await;
    let mut client = SseClient::resume(&server.http("/sse/crash"), 987_654_321).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", latest));
}

#[tokio::test]
async fn a_resume_point_beyond_the_limit_is_a_gap() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_RESUME_LIMIT", "5").start().await;
    let rounds = database.finish_many_streamed(&server, "crash", 10).await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[0]))).await;
    assert_eq!(client.close_code().await, Some(4410));
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[4]))).await;
    assert_eq!(ids(&client.rounds(5).await), rounds[5..]);
}

#[tokio::test]
async fn a_query_value_that_cannot_be_an_id_is_400() {
    let (_database, server) = serving().await;
    let long = "x".repeat(201);
    for value in ["%FF", "a%0Ab", "%00", &long] {
        get(&server.http(&format!("/sse/crash?after={value}"))).await.assert_problem(400);
        let socket = server.ws(&format!("/ws/crash?after={value}"));
        assert_eq!(WsClient::try_connect(&socket, &[]).await.err(), Some(400), "{value}");
    }
}

#[tokio::test]
async fn a_text_that_names_no_round_is_an_unknown_resume_point() {
    let (database, server) = serving().await;
    let seed = database.finish_streamed(&server, "crash", "{}").await;
    let longest = "%C3%A9".repeat(100);
    for value in ["x", "1.5", "%2B5", "a%20b%2F%25%22", "99999999999999999999", &longest] {
        let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={value}"))).await;
        assert_eq!(client.close_code().await, Some(4410), "{value}");
        let mut client =
            SseClient::connect(&server.http(&format!("/sse/crash?after={value}"))).await;
        let (name, round) = client.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", seed), "{value}");
    }
}

#[tokio::test]
async fn a_last_event_id_of_any_kind_is_never_refused() {
    let (database, server) = serving().await;
    let seed = database.finish_streamed(&server, "crash", "{}").await;
    let long = "x".repeat(4_000);
    for header in ["nonsense", "%FF", "a%0Ab", "%00", "caf\u{e9}", "\"'/:%", &long] {
        let headers = [("last-event-id", header)];
        let mut client = SseClient::connect_with(&server.http("/sse/crash"), &headers).await;
        assert_eq!(client.status, 200, "{header}");
        let (name, round) = client.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", seed), "{header}");
    }
}

#[tokio::test]
async fn an_empty_resume_point_is_ignored() {
    let (database, server) = serving().await;
    let seed = database.finish_streamed(&server, "crash", "{}").await;
    let mut client = WsClient::connect(server.ws("/ws/crash?after=")).await;
    assert_eq!(client.next_round().await.round_id, seed);
    let mut client =
        SseClient::connect_with(&server.http("/sse/crash"), &[("last-event-id", "")]).await;
    assert_eq!(client.next_event().await.0, "initial");
}
