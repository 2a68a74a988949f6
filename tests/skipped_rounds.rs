//! Games that cannot be read, and rounds that no path sends: each path skips and counts them once.

use testkit::{
    TestDatabase, TestServer, WsClient,
    doctor::{findings, run, told},
    eventually,
    game::{attach, dice, migrated_game, psql},
    get,
    round::ids,
};

fn skipped(reason: &str, count: u32) -> String {
    format!("datastream_rounds_skipped_total{{reason=\"{reason}\"}} {count}")
}

/// Two games, of which the first can no longer be read once its `d` is zero.
async fn with_failing(column: &str) -> TestDatabase {
    let fails = "case when d = 0 then (1 / d)::text else ";
    let columns = ["slug", "name", "type"].map(|name| {
        let text = if name == "type" { "'chance'" } else { "slug" };
        if name == column {
            format!("{fails}{text} end as {name}")
        } else {
            format!("{text} as {name}")
        }
    });
    let database = migrated_game(&format!(
        "create table gbase (id bigint primary key, slug text, d int); \
         insert into gbase values (7, 'seven', 1), (8, 'eight', 1); \
         create view gv as select id, {} from gbase; \
         create table plays (id bigint primary key, game_id bigint, at timestamptz, extras jsonb)",
        columns.join(", ")
    ))
    .await;
    let more = ["--table", "plays", "--finished-at", "at", "--games", "gv"];
    attach(&database, &more).await;
    database
}

async fn play(database: &TestDatabase, id: i64, game: i64) {
    database.run(&format!("insert into plays values ({id}, {game}, clock_timestamp())")).await;
}

#[tokio::test]
async fn a_game_that_cannot_be_read_stops_no_round_of_another() {
    for column in ["slug", "type"] {
        let database = with_failing(column).await;
        let server = TestServer::on(database.url()).start().await;
        let mut live = WsClient::connect(server.ws("/ws")).await;
        play(&database, 1, 8).await;
        assert_eq!(live.next_round().await.round_id, 1, "{column}");
        database.run("update gbase set d = 0 where id = 7").await;
        play(&database, 2, 7).await;
        play(&database, 3, 8).await;
        assert_eq!(live.next_round().await.round_id, 3, "{column}");
        server.counts(&skipped("unreadable", 1)).await;
        drop(server);
        let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
        let games = get(&server.http("/games")).await;
        assert_eq!(games.json().as_array().map(Vec::len), Some(1), "{column}: {}", games.body);
        let list = get(&server.http("/rounds")).await;
        assert_eq!((list.status, list.json().as_array().map(Vec::len)), (200, Some(2)), "{column}");
        let mut resumed = WsClient::connect(server.ws("/ws?after=1")).await;
        play(&database, 4, 7).await;
        play(&database, 5, 8).await;
        assert_eq!(ids(&resumed.rounds(2).await), [3, 5], "{column}");
        server.counts(&skipped("unreadable", 2)).await;
        server.logs("a game cannot be read").await;
        let found = findings(&database.url(), "games", &[]).await;
        assert!(told(&found, "failed", "game 7 cannot be read").says.contains("division"));
        database.run("update gbase set d = 1 where id = 7").await;
        eventually("both games", || async {
            let games = get(&server.http("/games")).await.json();
            (games.as_array().map(Vec::len) == Some(2)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_game_without_a_readable_name_is_streamed() {
    let database = with_failing("name").await;
    database.run("update gbase set d = 0 where id = 7").await;
    let server = TestServer::on(database.url()).start().await;
    let mut live = WsClient::connect(server.ws("/ws/seven")).await;
    play(&database, 1, 7).await;
    assert_eq!(live.next_round().await.round_id, 1);
}

#[tokio::test]
async fn a_name_or_a_slug_that_is_not_utf_8_does_not_stop_a_server_in_sql_ascii() {
    let database = TestDatabase::in_encoding("SQL_ASCII").await;
    let migrate = run(&database.url(), "migrate", &[]).await;
    assert_eq!(migrate.code, Some(0), "{}", migrate.stderr);
    let bytes = "convert_from('\\x62ff', 'SQL_ASCII')";
    database
        .run(&format!("insert into games (slug, name, type) values ('crash', {bytes}, 'a')"))
        .await;
    let table = "create table plays (id text primary key, slug text, at timestamptz, extras jsonb, game bigint)";
    database.run(table).await;
    let options = [
        "--table",
        "plays",
        "--finished-at",
        "at",
        "--slug-column",
        "slug",
        "--type",
        "chance",
        "--game-id",
        "game",
        "--id-prefix",
        "p",
    ];
    attach(&database, &options).await;
    database.run("insert into plays values ('a', 'dice', now(), '{}', 7)").await;
    database.run(&format!("insert into plays values ('b', {bytes}, now(), '{{}}', 7)")).await;
    let server = TestServer::on(database.url()).start().await;
    let games = get(&server.http("/games")).await;
    assert!(games.body.contains("\"crash\"") && games.body.contains("\"dice\""), "{}", games.body);
    let list = get(&server.http("/rounds")).await;
    assert_eq!(list.json().as_array().map(Vec::len), Some(1), "{}", list.body);
    server.counts(&skipped("unreadable", 1)).await;
}

#[tokio::test]
async fn extras_of_a_json_or_text_column_are_rendered_by_jsonb_and_skipped_if_it_rejects_them() {
    for kind in ["json", "text"] {
        let table =
            format!("create table plays (id bigint primary key, at timestamptz, extras {kind})");
        let database = migrated_game(&table).await;
        attach(&database, &dice("plays", &[])).await;
        let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
        let mut live = WsClient::connect(server.ws("/ws/dice")).await;
        let odd = "  {\"b\":1,   \"a\":1.0, \"b\":2}";
        let mut texts = vec![odd, "\"\\u0000\"", "1e400000"];
        if kind == "text" {
            texts.push("{bad");
        }
        let count = u32::try_from(texts.len()).expect("few") - 1;
        for (id, text) in (1..).zip(&texts) {
            let insert = format!("insert into plays values ({id}, clock_timestamp(), '{text}')");
            let output = psql(&database, &["-v", "ON_ERROR_STOP=1", "-c", &insert]).await;
            assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{insert}");
        }
        database.run("insert into plays values (9, clock_timestamp(), null)").await;
        let got = live.rounds(2).await;
        let extras: Vec<_> = got.iter().map(|round| (round.round_id, &*round.extras)).collect();
        assert_eq!(extras, [(1, "{\"a\": 1.0, \"b\": 2}"), (9, "{}")], "{kind}");
        server.counts(&skipped("unreadable", count)).await;
        let list = get(&server.http("/rounds/dice")).await.json();
        assert_eq!(list[1]["extras"], "{\"a\": 1.0, \"b\": 2}", "{kind}");
        let mut resumed = WsClient::connect(server.ws("/ws/dice?after=1")).await;
        assert_eq!(resumed.next_round().await.round_id, 9, "{kind}");
    }
}

#[tokio::test]
async fn a_page_is_filled_past_rounds_that_cannot_be_sent() {
    let database = TestDatabase::new().await;
    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(1_000));
    let oldest = database.finish("double", &large).await;
    let first = database.finish("double", "{}").await;
    let second = database.finish("double", "{}").await;
    for _ in 0..5 {
        database.finish("double", &large).await;
    }
    let server = TestServer::on(database.url()).env("DATASTREAM_MAX_ROUND", "1000").start().await;
    let listed = async |path: &str| {
        let page = get(&server.http(path)).await;
        let rounds = page.json();
        let ids = rounds.as_array().expect("a list").iter();
        let ids: Vec<_> = ids.map(|round| round["round_id"].as_i64().expect("an id")).collect();
        let link = page.header("link").strip_prefix('<').and_then(|link| link.split_once('>'));
        (ids, link.map(|(path, _)| path.to_owned()))
    };
    let (newest, link) = listed("/rounds/double?limit=1").await;
    assert_eq!(newest, [second]);
    let (next, link) = listed(&link.expect("a link")).await;
    assert_eq!((next, link), (vec![first], None), "{oldest} cannot be sent");
    assert_eq!(listed("/rounds/double?limit=2").await, (vec![second, first], None));
}

#[tokio::test]
async fn a_round_that_is_unfinished_again_counts_as_unfinished() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    server.counts(&skipped("unfinished", 0)).await;
    let insert = "insert into rounds (game_id, finished_at) select id, now() from games where slug = 'crash'";
    database.run(&format!("begin; {insert}; update rounds set finished_at = null; commit")).await;
    server.counts(&skipped("unfinished", 1)).await;
    database.run(&format!("begin; {insert}; delete from rounds; commit")).await;
    server.counts(&skipped("deleted", 1)).await;
    server.counts(&skipped("unfinished", 1)).await;
}

#[tokio::test]
async fn a_start_counts_bad_ids_and_deleted_and_unfinished_rounds_once() {
    let database =
        migrated_game("create table plays (id text primary key, at timestamptz, extras jsonb)")
            .await;
    attach(&database, &dice("plays", &["--id-prefix", "p"])).await;
    for id in ["'a'", "E'x\\n'", "''", "'gone'", "'open'", "'b'"] {
        database.run(&format!("insert into plays values ({id}, clock_timestamp())")).await;
    }
    database
        .run("insert into plays values ('late', 'infinity'), ('early', '-infinity'), ('b2', now())")
        .await;
    database.run("delete from plays where id = 'gone'").await;
    database.run("update plays set at = null where id = 'open'").await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let counted = async || {
        server.counts(&skipped("bad_id", 2)).await;
        server.counts(&skipped("deleted", 1)).await;
        server.counts(&skipped("unfinished", 1)).await;
        server.counts(&skipped("out_of_range", 2)).await;
    };
    counted().await;
    server.logs("cannot be sent").await;
    let list = get(&server.http("/rounds")).await;
    assert_eq!(list.json().as_array().map(Vec::len), Some(3), "{}", list.body);
    let mut resumed = WsClient::connect(server.ws("/ws?after=p%3Aa")).await;
    assert_eq!(resumed.next_round_of::<String, i64>().await.round_id, "p:b");
    counted().await;
}

#[tokio::test]
async fn doctor_finds_rounds_in_a_table_that_the_outbox_no_longer_has() {
    let database =
        migrated_game("create table plays (id text primary key, at timestamptz, extras jsonb)")
            .await;
    attach(&database, &dice("plays", &["--id-prefix", "p"])).await;
    database
        .run("insert into plays values (E'x\\n', now()), ('', now()), ('far', 'infinity')")
        .await;
    database.run("insert into plays select 'p' || i, now() from generate_series(1, 2000) i").await;
    database.run("delete from datastream.outbox").await;
    let found = findings(&database.url(), "rounds", &[]).await;
    told(&found, "warning", "2 finished rounds cannot be sent (the id is empty");
    told(&found, "warning", "(finished_at is out of range), such as p:far of public.plays");
    database.run("delete from plays where id in (E'x\\n', '', 'far')").await;
    let found = findings(&database.url(), "rounds", &[]).await;
    told(&found, "ok", "every finished round in the attached tables");
}
