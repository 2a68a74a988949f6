//! Databases whose encoding has bytes that UTF-8 lacks: in WIN1252 the byte 0x81 stands for no character.

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient,
    doctor::run,
    game::{attach, dice},
    get,
    round::ids,
};

/// A text of the one byte 0x81.
const BYTE: &str = "convert_from('\\x81', 'WIN1252')";

fn skipped(reason: &str, count: u32) -> String {
    format!("datastream_rounds_skipped_total{{reason=\"{reason}\"}} {count}")
}

/// Migrated in this capture mode, with the sample games.
async fn migrated(mode: &str) -> TestDatabase {
    let database = TestDatabase::in_win1252().await;
    let output = run(&database.url(), "migrate --capture", &[mode]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let games = "insert into games (slug, name, type) values ('crash', 'Crash', 'multiplier'), ('double', 'Double', 'color')";
    database.run(games).await;
    database
}

/// Finishes a round of crash whose extras have that byte.
async fn finish_unreadable(database: &TestDatabase) -> i64 {
    let insert = format!(
        "insert into rounds (game_id, finished_at, extras) select id, now(), jsonb_build_object('a', {BYTE}) \
         from games where slug = 'crash' returning id::text"
    );
    database.text(&insert).await.and_then(|id| id.parse().ok()).expect("an id")
}

#[tokio::test]
async fn a_byte_that_utf_8_lacks_skips_its_round_on_every_path_in_every_capture_mode() {
    for mode in ["auto", "notify", "poll"] {
        let database = migrated(mode).await;
        let server = TestServer::on(database.url()).start().await;
        let mut live = WsClient::connect(server.ws("/ws")).await;
        let first = database.finish("crash", r#"{"a": "ä"}"#).await;
        assert_eq!(live.next_round().await.extras, r#"{"a": "ä"}"#, "{mode}");
        let bad = finish_unreadable(&database).await;
        let after = database.finish("double", "{}").await;
        assert_eq!(live.next_round().await.round_id, after, "{mode}");
        server.counts(&skipped("unreadable", 1)).await;
        // The payload of a notification with that byte would end the connection.
        assert!((server.metric("datastream_listener_connects_total").await - 1.0).abs() < 0.1);
        drop(server);
        let last = finish_unreadable(&database).await;
        every_path_after_a_restart(&database, [first, bad, after, last]).await;
    }
}

async fn every_path_after_a_restart(database: &TestDatabase, rounds: [i64; 4]) {
    let [first, bad, after, last] = rounds;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
    assert_eq!(seed.round_id, first);
    let mut resumed = WsClient::connect(server.ws(&format!("/ws?after={first}"))).await;
    assert_eq!(resumed.next_round().await.round_id, after);
    let latest = get(&server.http("/rounds/crash/latest")).await;
    assert!(latest.body.contains(&format!("\"round_id\":{first},")), "{}", latest.body);
    for path in
        ["/rounds/crash", &format!("/rounds/crash?before={last}"), &format!("/rounds?before={bad}")]
    {
        let list = get(&server.http(path)).await;
        assert_eq!(list.status, 200, "{path}: {}", list.body);
        assert!(list.body.contains(&format!("\"round_id\":{first},")), "{path}: {}", list.body);
        assert!(!list.body.contains(&format!("\"round_id\":{bad},")), "{path}: {}", list.body);
    }
    server.counts(&skipped("unreadable", 2)).await;
    let live = database.finish("crash", "{}").await;
    assert_eq!(resumed.next_round().await.round_id, live);
    // That point names a round that no client can have. It is a place all the same.
    let mut across = WsClient::connect(server.ws(&format!("/ws?after={bad}"))).await;
    assert_eq!(ids(&across.rounds_until(live).await).last(), Some(&live));
    let doctor = run(&database.url(), "doctor", &[]).await;
    let found = |line: &str| line.contains("FAILED") && line.contains("rounds cannot be read");
    assert!(doctor.stdout.lines().any(found), "{}", doctor.stdout);
    assert_eq!(doctor.code, Some(1));
}

#[tokio::test]
async fn an_id_a_slug_and_a_type_that_utf_8_lacks_skip_their_rounds_alone() {
    let database = migrated("auto").await;
    let table = "create table plays (id text primary key, slug text, kind text, at timestamptz)";
    database.run(table).await;
    let from_row = ["--slug-column", "slug", "--type-column", "kind", "--game-id", "slug"];
    let more = ["--finished-at", "at", "--extras-columns", "at", "--id-prefix", "p"];
    attach(&database, &[&["--table", "plays"], &more[..], &from_row].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws")).await;
    let play = async |id: &str, slug: &str, kind: &str| {
        database
            .run(&format!("insert into plays values ({id}, {slug}, {kind}, clock_timestamp())"))
            .await;
    };
    play("'a'", "'dice'", "'chance'").await;
    assert_eq!(live.next_round_of::<String, String>().await.round_id, "p:a");
    let not_sent = format!("'b' || {BYTE}");
    play(&not_sent, "'dice'", "'chance'").await;
    play("'c'", "'dice'", &format!("'chance' || {BYTE}")).await;
    play("'é'", "'dice'", "'chance'").await;
    assert_eq!(live.next_round_of::<String, String>().await.round_id, "p:é");
    server.counts(&skipped("bad_id", 1)).await;
    drop(server);
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let list = get(&server.http("/rounds/dice")).await;
    assert_eq!((list.status, list.body.matches("\"round_id\"").count()), (200, 2), "{}", list.body);
    let mut resumed = WsClient::connect(server.ws("/ws?after=p%3Aa")).await;
    assert_eq!(resumed.next_round_of::<String, String>().await.round_id, "p:é");
    let games = get(&server.http("/games")).await;
    assert_eq!((games.status, games.body.contains("dice")), (200, true), "{}", games.body);
    let doctor = run(&database.url(), "doctor", &[]).await;
    for found in ["the id is empty", "UTF-8 lacks a character"] {
        assert!(doctor.stdout.contains(found), "{found}: {}", doctor.stdout);
    }
}

#[tokio::test]
async fn a_slug_of_the_table_of_games_that_utf_8_lacks_hides_its_game_alone() {
    let database = migrated("auto").await;
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws/crash")).await;
    database.finish("double", "{}").await;
    database
        .run(&format!(
            "update games set slug = slug || {BYTE}, name = {BYTE} where slug = 'double'"
        ))
        .await;
    database.run(&format!("update games set name = {BYTE} where slug = 'crash'")).await;
    database.run("insert into rounds (game_id, finished_at) select id, now() from games").await;
    let crash = live.next_round().await.round_id;
    server.counts(&skipped("unreadable", 1)).await;
    let games = get(&server.http("/games")).await;
    assert!(games.body.contains("\"name\":\"crash\""), "{}", games.body);
    assert_eq!(get(&server.http("/rounds/nothing")).await.status, 404);
    drop(server);
    let server = TestServer::on(database.url()).start().await;
    let mut seeded = WsClient::connect(server.ws("/ws")).await;
    assert_eq!(seeded.next_round().await.round_id, crash);
    let mut resumed = WsClient::connect(server.ws("/ws?after=1")).await;
    assert_eq!(resumed.next_round().await.round_id, crash);
}

#[tokio::test]
async fn the_read_only_mode_skips_such_rounds_too() {
    let database = TestDatabase::in_win1252().await;
    let tables = "create table games (id int, slug text, name text, type text); \
        insert into games values (1, 'crash', 'Crash', 'multiplier'), (2, 'double', 'Double', 'color'); \
        create table rounds (id text primary key, game_id int, finished_at timestamptz, extras text)";
    database.run(tables).await;
    database
        .run(&format!("update games set slug = slug || {BYTE}, type = type || {BYTE} where id = 2"))
        .await;
    let rounds = "select id as round_id, game_id, finished_at, extras from rounds";
    let start = |history: &str| {
        let server = TestServer::on(database.url())
            .env("DATASTREAM_READ_ONLY", "true")
            .env("DATASTREAM_READ_ONLY_ROUNDS", rounds)
            .env("DATASTREAM_READ_ONLY_GAMES", "select id, slug, name, type from games");
        server.env("DATASTREAM_HISTORY", history).start()
    };
    let finish = async |id: &str, game: u8, extras: &str| {
        database
            .run(&format!("insert into rounds values ({id}, {game}, clock_timestamp(), {extras})"))
            .await;
    };
    let server = start("10").await;
    let mut live = WsClient::connect(server.ws("/ws")).await;
    finish("'a'", 1, "'{}'").await;
    assert_eq!(live.next_round_of::<String, i64>().await.round_id, "a");
    finish("'b'", 1, &format!("'\"' || {BYTE} || '\"'")).await;
    finish(&format!("'c' || {BYTE}"), 1, "'{}'").await;
    finish("'d'", 2, "'{}'").await;
    finish("'é'", 1, "'{}'").await;
    assert_eq!(live.next_round_of::<String, i64>().await.round_id, "é");
    for (reason, count) in [("unreadable", 2), ("bad_id", 1)] {
        server.counts(&skipped(reason, count)).await;
    }
    drop(server);
    let server = start("1").await;
    let list = get(&server.http("/rounds/crash")).await;
    assert_eq!((list.status, list.body.matches("\"round_id\"").count()), (200, 2), "{}", list.body);
    let mut resumed = WsClient::connect(server.ws("/ws?after=a")).await;
    assert_eq!(resumed.next_round_of::<String, i64>().await.round_id, "é");
}

#[tokio::test]
async fn extras_in_sql_ascii_are_sent_if_they_are_utf_8_and_skipped_if_not() {
    let database = TestDatabase::in_encoding("SQL_ASCII").await;
    database.run("create table plays (id text primary key, at timestamptz, note text)").await;
    let migrate = run(&database.url(), "migrate", &[]).await;
    assert_eq!(migrate.code, Some(0), "{}", migrate.stderr);
    attach(&database, &dice("plays", &["--extras-columns", "note", "--id-prefix", "p"])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws/dice")).await;
    let play = async |id: &str, bytes: &str| {
        let text = |hex: &str| format!("convert_from('\\x{hex}', 'SQL_ASCII')");
        database
            .run(&format!("insert into plays values ({}, now(), {})", text(id), text(bytes)))
            .await;
    };
    play("61c3a9", "c3a9").await;
    let round = live.next_round_of::<String, i64>().await;
    assert_eq!((&*round.round_id, &*round.extras), ("p:aé", "{\"note\": \"é\"}"));
    play("62", "e9").await;
    play("63e9", "61").await;
    play("64", "61").await;
    assert_eq!(live.next_round_of::<String, i64>().await.round_id, "p:d");
    server.counts(&skipped("unreadable", 1)).await;
    server.counts(&skipped("bad_id", 1)).await;
}
