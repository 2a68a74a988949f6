//! The seed of a new connection, and that no round is lost between it and the stream.

use futures_util::future::join_all;

use testkit::{SseClient, WsClient, round::ids, serving};

#[tokio::test]
async fn a_connection_starts_with_the_latest_round_of_its_selection() {
    let (database, server) = serving().await;
    let mut streamed = WsClient::connect(server.ws("/ws")).await;
    database.finish("crash", "{}").await;
    let crash = database.finish("crash", "{}").await;
    let double = database.finish("double", "{}").await;
    streamed.rounds_until(double).await;
    for (path, expected) in [
        ("/ws/crash", crash),
        ("/ws/type/color", double),
        ("/ws", double),
        ("/ws?game=crash", crash),
    ] {
        let mut client = WsClient::connect(server.ws(path)).await;
        assert_eq!(client.next_round().await.round_id, expected, "{path}");
    }
}

#[tokio::test]
async fn the_latest_round_is_the_greatest_by_finished_at_and_id() {
    let (database, server) = serving().await;
    let mut streamed = WsClient::connect(server.ws("/ws")).await;
    let latest = database.finish_at("crash", "now() + interval '1 hour'").await;
    let late = database.finish_at("crash", "now() - interval '1 hour'").await;
    streamed.rounds_until(late).await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, latest);
    let moment = "(select max(finished_at) from rounds)";
    let same_moment = database.finish_at("crash", moment).await;
    assert_eq!(client.next_round().await.round_id, same_moment);
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, same_moment);
}

#[tokio::test]
async fn rounds_from_before_the_server_started_are_seeds() {
    let database = testkit::TestDatabase::new().await;
    let before = database.finish("crash", r#"{"point": "3.00"}"#).await;
    let server = testkit::TestServer::on(database.url()).start().await;
    let mut client = SseClient::connect(&server.http("/sse/crash")).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", before));
    assert_eq!(round.extras, r#"{"point": "3.00"}"#);
}

#[tokio::test]
async fn without_a_finished_round_there_is_no_seed() {
    let (database, server) = serving().await;
    database.open("crash").await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    let (name, round) = events.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("message", first));
}

#[tokio::test]
async fn a_rolled_back_round_is_no_seed() {
    let (database, server) = serving().await;
    let kept = database.finish_streamed(&server, "crash", "{}").await;
    database
        .run(
            "begin; insert into rounds (game_id, finished_at) \
             select id, now() from games where slug = 'crash'; rollback",
        )
        .await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, kept);
}

#[tokio::test]
async fn subscribing_during_a_burst_loses_and_repeats_no_round() {
    let (database, server) = serving().await;
    let mut whole = WsClient::connect(server.ws("/ws/crash")).await;
    let flood = {
        let database = database.clone();
        async move {
            let writers = (0..4).map(|_| database.finish_many("crash", 150));
            join_all(writers).await.concat()
        }
    };
    let joiners = async {
        let mut clients = Vec::new();
        for _ in 0..25 {
            let mut client = WsClient::connect(server.ws("/ws/crash")).await;
            let seed = client.next_round().await.round_id;
            clients.push((seed, client));
        }
        clients
    };
    let (_, clients) = tokio::join!(flood, joiners);
    let last = database.finish("crash", "{}").await;
    let order = ids(&whole.rounds_until(last).await);
    assert_eq!(order.len(), 601);
    for (seed, mut client) in clients {
        let seen = ids(&client.rounds_until(last).await);
        // The seed is the latest by finished_at, not necessarily the last streamed round.
        let (before, after) = order.split_at(order.len() - seen.len());
        assert_eq!(seen, after, "the stream after the seed {seed}");
        assert!(before.contains(&seed), "the seed {seed} is not of {before:?}");
    }
}
