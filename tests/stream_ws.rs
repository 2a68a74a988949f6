//! Rounds over WebSocket: which are streamed, when, to which subscribers, in which bytes.

use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use testkit::{TestDatabase, TestServer, WsClient, round::ids, serving};

#[tokio::test]
async fn a_round_message_has_exactly_the_bytes_of_the_contract() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into rounds (id, game_id, finished_at, extras) \
        select 512, id, '2026-01-17 00:45:42+00', '{\"point\": \"11.72\"}' from games where slug = 'crash'";
    database.run(insert).await;
    let round = client.next_round().await;
    let game = database.text("select id::text from games where slug = 'crash'").await;
    let expected = format!(
        r#"{{"round_id":512,"game_id":{},"game_slug":"crash","game_type":"multiplier","finished_at":"2026-01-17T00:45:42Z","extras":"{{\"point\": \"11.72\"}}","timestamp":{}}}"#,
        game.expect("a game"),
        round.timestamp
    );
    assert_eq!(round.text, expected);
    let now = chrono::Utc::now().timestamp_millis();
    assert!((now - 20_000..=now).contains(&round.timestamp), "{round:?} at {now}");
}

#[tokio::test]
async fn finished_at_is_utc_with_no_fraction_or_up_to_six_digits() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for (moment, expected) in [
        ("'2026-01-17 00:45:42.5+00'", "2026-01-17T00:45:42.5Z"),
        ("'2026-01-17 00:45:42.123456+00'", "2026-01-17T00:45:42.123456Z"),
        ("'2026-01-17 01:45:42+01'", "2026-01-17T00:45:42Z"),
        ("'0001-01-01 00:00:00+00'", "0001-01-01T00:00:00Z"),
        ("'9999-12-31 23:59:59.999999+00'", "9999-12-31T23:59:59.999999Z"),
    ] {
        database.finish_at("crash", moment).await;
        assert_eq!(client.next_round().await.finished_at, expected);
    }
}

#[tokio::test]
async fn a_finished_at_out_of_range_is_counted_and_not_streamed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    for moment in
        ["'infinity'", "'-infinity'", "'10000-01-01 00:00:00+00'", "'0001-06-01 00:00:00+00 BC'"]
    {
        database.finish_at("crash", moment).await;
    }
    let good = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, good);
    let metrics = testkit::get(&server.http("/metrics")).await.body;
    assert!(
        metrics.contains(r#"datastream_rounds_skipped_total{reason="out_of_range"} 4"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_unfinished_round_is_streamed_when_it_finishes() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let open = database.open("crash").await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    database.finish_open(open, r#"{"point": "1.50"}"#).await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, round.extras.as_str()), (open, r#"{"point": "1.50"}"#));
}

#[tokio::test]
async fn an_update_or_delete_of_a_finished_round_sends_nothing() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    database.run("update rounds set extras = '{\"a\": 1}', finished_at = finished_at + '1s'").await;
    database.run("delete from rounds").await;
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn a_round_finished_unfinished_and_finished_again_is_streamed_again() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    database.run("update rounds set finished_at = null").await;
    database.finish_open(round, r#"{"again": true}"#).await;
    let again = client.next_round().await;
    assert_eq!((again.round_id, again.extras.as_str()), (round, r#"{"again": true}"#));
}

#[tokio::test]
async fn a_rolled_back_round_is_never_streamed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into rounds (game_id, finished_at, extras) \
        select id, now(), '{\"lost\": true}' from games where slug = 'crash'";
    database.run(&format!("begin; {insert}; rollback")).await;
    let kept = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, kept);
}

#[tokio::test]
async fn rounds_rolled_back_to_a_savepoint_are_never_streamed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = |id: i64| {
        format!(
            "insert into rounds (id, game_id, finished_at) \
             select {id}, id, now() from games where slug = 'crash'"
        )
    };
    let (one, two, three, four) = (insert(1001), insert(1002), insert(1003), insert(1004));
    database
        .run(&format!(
            "begin; {one}; savepoint a; {two}; rollback to a; savepoint b; {three}; release b; {four}; commit"
        ))
        .await;
    assert_eq!(ids(&client.rounds(3).await), [1001, 1003, 1004]);
    let after = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, after);
}

#[tokio::test]
async fn extras_of_every_kind_arrive_as_postgresql_prints_them() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/slot")).await;
    let long = format!(r#"{{"long": "{}"}}"#, "x".repeat(20_000));
    let wide = format!(r#"{{"wide": "{}"}}"#, "€".repeat(7_000));
    for extras in [
        "{}",
        "null",
        "[]",
        r#"["a", 1, null, true, 1.50]"#,
        "42",
        r#""text""#,
        r#"{"quote": "\"", "back": "\\", "line": "\n", "tab": "\t", "alarm": "\u0007"}"#,
        r#"{"unicode": "žluťoučký kůň 🎰 日本語", "rtl": "שלום", "ls": "\u2028"}"#,
        r#"{"nested": {"a": [{"b": {"c": [[]]}}]}, "": ""}"#,
        r#"{"number": 123456789012345678901234567890.123456789}"#,
        &long,
        &wide,
    ] {
        let id = database.finish("slot", extras).await;
        let round = client.next_round().await;
        assert_eq!(round.round_id, id);
        assert_eq!(round.extras, database.extras_of(id).await);
    }
}

#[tokio::test]
async fn each_subscriber_receives_only_its_selection() {
    let (database, server) = serving().await;
    let paths = [
        ("/ws/crash", vec!["crash"]),
        ("/ws/type/multiplier", vec!["crash", "slot"]),
        ("/ws/type/color", vec!["double"]),
        ("/ws", vec!["crash", "double", "slot", "wall-street"]),
        ("/ws?game=crash&game=double", vec!["crash", "double"]),
        ("/ws?game=wall-street&type=color", vec!["double", "wall-street"]),
        ("/ws?game=crash&type=multiplier", vec!["crash", "slot"]),
    ];
    let mut clients = join_all(paths.iter().map(|(p, _)| WsClient::connect(server.ws(p)))).await;
    for game in ["crash", "double", "slot", "wall-street"] {
        database.finish(game, "{}").await;
    }
    for (client, (path, expected)) in clients.iter_mut().zip(&paths) {
        let rounds = client.rounds(expected.len()).await;
        let mut slugs: Vec<_> = rounds.iter().map(|round| round.game_slug.as_str()).collect();
        slugs.sort_unstable();
        assert_eq!(&slugs, expected, "{path}");
    }
    // No other round arrived before the next one of each selection.
    for game in ["crash", "double", "slot", "wall-street"] {
        let next = database.finish(game, "{}").await;
        for (client, (path, games)) in clients.iter_mut().zip(&paths) {
            if games.contains(&game) {
                assert_eq!(client.next_round().await.round_id, next, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn all_subscribers_see_the_same_order() {
    let (database, server) = serving().await;
    let urls = vec![server.ws("/ws"); 5];
    let mut clients = join_all(urls.into_iter().map(WsClient::connect)).await;
    let writers = (0..4).map(|writer| {
        let database = database.clone();
        let game = ["crash", "double", "slot", "wall-street"][writer];
        async move { database.finish_many(game, 50).await }
    });
    join_all(writers).await;
    let first = ids(&clients[0].rounds(200).await);
    for client in &mut clients[1..] {
        assert_eq!(ids(&client.rounds(200).await), first);
    }
}

#[tokio::test]
async fn rounds_of_a_transaction_are_ordered_by_id_after_earlier_commits() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let before = database.finish("crash", "{}").await;
    database
        .run(
            "insert into rounds (id, game_id, finished_at) \
             select 100000 - n, g.id, now() from games g, generate_series(1, 50) n where slug = 'crash'",
        )
        .await;
    let after = database.finish("crash", "{}").await;
    let rounds = ids(&client.rounds(52).await);
    let expected: Vec<i64> = [before].into_iter().chain(99_950..=99_999).chain([after]).collect();
    assert_eq!(rounds, expected);
}

#[tokio::test]
async fn a_game_and_a_type_added_while_running_are_found() {
    let (database, server) = serving().await;
    let mut everything = WsClient::connect(server.ws("/ws")).await;
    assert_eq!(WsClient::try_connect(&server.ws("/ws/plinko"), &[]).await.err(), Some(404));
    assert_eq!(WsClient::try_connect(&server.ws("/ws/type/pegs"), &[]).await.err(), Some(404));
    database.run("insert into games (slug, name, type) values ('plinko', 'Plinko', 'pegs')").await;
    let mut game = WsClient::connect(server.ws("/ws/plinko")).await;
    let mut kind = WsClient::connect(server.ws("/ws/type/pegs")).await;
    let round = database.finish("plinko", r#"{"slot": 3}"#).await;
    for client in [&mut everything, &mut game, &mut kind] {
        let came = client.next_round().await;
        assert_eq!((came.round_id, came.game_type.as_str()), (round, "pegs"));
    }
}

#[tokio::test]
async fn the_first_round_of_an_unknown_game_reaches_all_subscribers() {
    let (database, server) = serving().await;
    let mut everything = WsClient::connect(server.ws("/ws")).await;
    database
        .run(
            "with game as (insert into games (slug, name, type) values ('dice', 'Dice', 'cubes') returning id) \
             insert into rounds (id, game_id, finished_at) select 777, id, now() from game",
        )
        .await;
    let round = everything.next_round().await;
    assert_eq!((round.round_id, round.game_slug.as_str()), (777, "dice"));
}

#[tokio::test]
async fn the_server_pings_and_keeps_a_client_that_answers() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", "2s").start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    // A client that misses two pings is closed at the third.
    for _ in 0..3 {
        client.ping().await;
    }
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
}

#[tokio::test]
async fn a_client_that_misses_two_pings_is_closed() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", "100ms").start().await;
    let handshake = "GET /ws/crash HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut silent = testkit::raw_http(server.addr, handshake).await;
    let head = silent.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_ascii_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    // Two empty pings, then 1013, whose code is not valid UTF-8.
    let frames = silent.read_to_end().await;
    let goodbye = "two pings without an answer: reconnect with after";
    let length = char::from(u8::try_from(2 + goodbye.len()).expect("short"));
    let pings = "\u{fffd}\0".repeat(2);
    assert_eq!(frames, format!("{pings}\u{fffd}{length}\u{3}\u{fffd}{goodbye}"));
}

#[tokio::test]
async fn client_messages_up_to_4_kib_are_ignored() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert!(client.send(Message::text("x".repeat(4096))).await);
    assert!(client.send(Message::binary(vec![0; 100])).await);
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    client.send(Message::text("x".repeat(4097))).await;
    assert_eq!(client.close_code().await, Some(1009));
}

#[tokio::test]
async fn the_server_answers_a_close_frame() {
    let (_database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert!(client.send(Message::Close(None)).await);
    client.close_code().await;
    WsClient::connect(server.ws("/ws/crash")).await.close().await;
}

#[tokio::test]
async fn a_full_server_answers_503_before_the_upgrade() {
    let database = TestDatabase::new().await;
    let server =
        TestServer::on(database.url()).env("DATASTREAM_MAX_CONNECTIONS", "2").start().await;
    let _first = WsClient::connect(server.ws("/ws/crash")).await;
    let second = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.err(), Some(503));
    second.close().await;
    testkit::eventually("room for another", || async {
        WsClient::try_connect(&server.ws("/ws/crash"), &[]).await.ok()
    })
    .await;
}
