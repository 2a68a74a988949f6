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

/// A server with a latest round in each of three games, which are returned oldest first.
async fn with_three_seeds(
    server: &testkit::TestServer,
    database: &testkit::TestDatabase,
) -> [i64; 3] {
    let old = database.finish_at("slot", "now() - interval '2 days'").await;
    let crash = database.finish("crash", "{}").await;
    let double = database.finish_streamed(server, "double", "{}").await;
    [old, crash, double]
}

#[tokio::test]
async fn with_seed_each_a_websocket_starts_with_the_latest_round_of_each_game_oldest_first() {
    let (database, server) = serving().await;
    let seeds = with_three_seeds(&server, &database).await;
    for (path, expected) in [
        ("/ws?seed=each", &seeds[..]),
        ("/ws/type/multiplier?seed=each", &seeds[..2]),
        ("/ws?game=double&game=slot&seed=each", &[seeds[0], seeds[2]]),
        ("/ws/crash?seed=each", &seeds[1..2]),
        ("/ws?seed=latest", &seeds[2..]),
        ("/ws?seed=", &seeds[2..]),
    ] {
        let mut client = WsClient::connect(server.ws(path)).await;
        for seed in expected {
            assert_eq!(client.next_round().await.round_id, *seed, "{path}");
        }
    }
    let mut client = WsClient::connect(server.ws("/ws?seed=each")).await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(ids(&client.rounds_until(live).await), [&seeds[..], &[live]].concat());
}

#[tokio::test]
async fn with_seed_each_every_seed_is_an_initial_event_and_only_the_last_has_an_id() {
    let (database, server) = serving().await;
    let seeds = with_three_seeds(&server, &database).await;
    for version in ["1.0", "1.1"] {
        let request = format!("GET /sse?seed=each HTTP/{version}\r\nHost: x\r\n\r\n");
        let mut client = testkit::raw_http(server.addr, &request).await;
        client.read_until("\r\n\r\n").await;
        let text = client.read_until(&format!("id: {}\n", seeds[2])).await;
        assert_eq!(text.matches("event: initial\n").count(), 3, "{text:?}");
        assert_eq!(text.matches("\nid: ").count(), 1, "{text:?}");
    }
    let mut client = SseClient::connect(&server.http("/sse?seed=each")).await;
    for seed in seeds {
        let (name, round) = client.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", seed));
    }
    let live = database.finish("slot", "{}").await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("message", live));
}

#[tokio::test]
async fn with_seed_none_a_stream_starts_with_the_next_round() {
    let (database, server) = serving().await;
    with_three_seeds(&server, &database).await;
    let mut socket = WsClient::connect(server.ws("/ws?seed=none")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash?seed=none")).await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(socket.next_round().await.round_id, live);
    let (name, round) = events.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("message", live));
}

#[tokio::test]
async fn a_resume_has_no_seed_and_a_gap_starts_over_with_the_seed_asked_for() {
    let (database, server) = serving().await;
    let seeds = with_three_seeds(&server, &database).await;
    let path = format!("/sse?seed=each&after={}", seeds[1]);
    let mut client = SseClient::connect(&server.http(&path)).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("message", seeds[2]));
    let mut client = SseClient::connect(&server.http("/sse?seed=each&after=999999999")).await;
    for seed in seeds {
        let (name, round) = client.next_event().await;
        assert_eq!((name.as_str(), round.round_id), ("initial", seed));
    }
    // Only an `initial` event says that the stream starts over.
    let mut client = SseClient::connect(&server.http("/sse?seed=none&after=999999999")).await;
    let (name, round) = client.next_event().await;
    assert_eq!((name.as_str(), round.round_id), ("initial", seeds[2]));
}

#[tokio::test]
async fn an_unknown_seed_is_malformed() {
    let (_database, server) = serving().await;
    for path in ["/sse?seed=all", "/sse/crash?seed=each&seed=none", "/ws?seed=0"] {
        let response = testkit::get(&server.http(path)).await;
        assert_eq!(response.status, 400, "{path}: {}", response.body);
        assert!(response.body.contains("seed"), "{path}: {}", response.body);
    }
}

#[tokio::test]
async fn large_seeds_of_many_games_reach_a_client_that_reads() {
    let (database, server) = serving().await;
    let games = "insert into public.games (slug, name, type) \
                 select 'big-' || n, n, 'big' from generate_series(1, 40) n";
    database.run(games).await;
    let rounds = "insert into public.rounds (game_id, finished_at, extras) \
                  select id, now(), jsonb_build_object('text', repeat('x', 200000)) \
                  from public.games where type = 'big'";
    database.run(rounds).await;
    let last = database.finish_streamed(&server, "crash", "{}").await;
    let mut socket = WsClient::connect(server.ws("/ws?seed=each")).await;
    let mut events = SseClient::connect(&server.http("/sse?seed=each")).await;
    assert_eq!(socket.rounds_until(last).await.len(), 41);
    for _ in 0..41 {
        let (name, _) = events.next_event().await;
        assert_eq!(name, "initial");
    }
}
