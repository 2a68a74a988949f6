//! Attached tables that the game renames, moves, drops or replaces: they can be detached or attached
//! again, and do not affect other tables.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::Output,
    game::{GAME, attach, contract, dice, dump, migrated_game, run},
};

/// Another table with its own game.
const OTHER: &str = "create table other (id bigint primary key, at timestamptz, n int)";

fn other() -> Vec<&'static str> {
    dice("other", &["--extras-columns", "n"])
}

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

/// Asserts that the other table can be attached, changed and streamed.
async fn the_other_is_well(database: &TestDatabase) {
    let output = attach(database, &other()).await;
    assert!(output.stderr.contains("game.results is left out"), "{output:?}");
    let output = run(database, "migrate", &["--capture", "poll"]).await;
    succeeded(&output);
    assert!(output.stdout.contains("public.other: capture is poll"), "{}", output.stdout);
    assert!(output.stderr.contains("game.results keeps its capture mode"), "{output:?}");
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    database.run("insert into other values (1000, now(), 1)").await;
    assert_eq!(client.next_round().await.round_id, 1000);
    let doctor = run(database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("datastream detach --table 'game.results'"), "{doctor:?}");
}

/// Runs `rename` and detaches the table by this name: the schema is as before attaching.
async fn is_detached(rename: &str, name: &str) {
    let database = migrated_game(GAME).await;
    database.run(OTHER).await;
    let expected = migrated_game(GAME).await;
    expected.run(OTHER).await;
    expected.run(rename).await;
    attach(&database, &contract(&["--index"])).await;
    database.run(rename).await;
    the_other_is_well(&database).await;
    succeeded(&run(&database, "detach", &["--table", name]).await);
    succeeded(&run(&database, "doctor", &[]).await);
    succeeded(&run(&database, "detach", &["--table", "other"]).await);
    assert_eq!(dump(&database).await, dump(&expected).await);
}

#[tokio::test]
async fn a_renamed_table_is_detached_by_its_old_name_and_does_not_affect_others() {
    is_detached("alter table game.results rename to archive", "game.results").await;
}

#[tokio::test]
async fn a_renamed_table_is_detached_by_its_new_name() {
    is_detached("alter table game.results rename to archive", "game.archive").await;
}

#[tokio::test]
async fn a_table_in_a_renamed_schema_is_detached_and_does_not_affect_others() {
    is_detached("alter schema game rename to play", "game.results").await;
}

#[tokio::test]
async fn a_dropped_table_is_detached_and_does_not_affect_others() {
    is_detached("drop table game.results cascade", "game.results").await;
}

#[tokio::test]
async fn a_revert_works_with_a_renamed_table() {
    let database = migrated_game(GAME).await;
    database.run(OTHER).await;
    attach(&database, &contract(&["--index"])).await;
    attach(&database, &other()).await;
    database.run("alter table game.results rename to archive").await;
    succeeded(&run(&database, "migrate", &["--revert"]).await);
    let left = "select count(*)::text from pg_trigger where tgname like 'datastream%'";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
    database.run("insert into game.archive (title_id, ended_at) values (1, now())").await;
}

#[tokio::test]
async fn a_renamed_column_affects_neither_another_table_nor_a_revert() {
    for rename in [
        "alter table game.results rename ended_at to over_at",
        "alter table game.results rename result_id to round_no",
        "alter table game.titles rename code to slug",
    ] {
        let database = migrated_game(GAME).await;
        database.run(OTHER).await;
        attach(&database, &contract(&["--index"])).await;
        database.run(rename).await;
        let output = attach(&database, &other()).await;
        assert!(output.stderr.contains("game.results is left out"), "{output:?}");
        let doctor = run(&database, "doctor", &[]).await;
        assert!(doctor.stdout.contains("datastream attach --table 'game.results'"), "{doctor:?}");
        succeeded(&run(&database, "detach", &["--table", "other"]).await);
        attach(&database, &other()).await;
        succeeded(&run(&database, "migrate", &["--capture", "poll"]).await);
        succeeded(&run(&database, "migrate", &["--revert"]).await);
    }
}

/// `contract`, for another table.
fn of(table: &'static str) -> Vec<&'static str> {
    let named = |word| if word == "game.results" { table } else { word };
    contract(&["--index"]).into_iter().map(named).collect()
}

#[tokio::test]
async fn a_renamed_table_is_attached_again_by_its_new_name() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    succeeded(&run(&database, "migrate", &["--capture", "poll"]).await);
    database.run("alter table game.results rename to archive").await;
    let output = attach(&database, &of("game.archive")).await;
    assert!(output.stdout.contains("game.archive is attached; capture is poll"), "{output:?}");
    let attached = "select string_agg(relation || id, ',') from datastream.attached";
    assert_eq!(database.text(attached).await.as_deref(), Some("game.archive1"));
    succeeded(&run(&database, "doctor", &[]).await);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into game.archive (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 1);
}

#[tokio::test]
async fn a_new_table_with_the_name_of_a_dropped_one_replaces_it() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    database
        .run(
            "alter table game.results rename to last_year; \
             create table game.results (like game.last_year including all excluding indexes, primary key (result_id)); \
             alter table game.results alter result_id restart 1000",
        )
        .await;
    let doctor = run(&database, "doctor", &[]).await;
    assert!(doctor.stdout.contains("attach again with the same options"), "{}", doctor.stdout);
    attach(&database, &contract(&["--index"])).await;
    succeeded(&run(&database, "doctor", &[]).await);
    let ours = "select string_agg(tgrelid::regclass::text, ',') from pg_trigger where tgname like 'datastream%'";
    assert_eq!(database.text(ours).await.as_deref(), Some("game.results,game.results"));
    let index = "select string_agg(indrelid::regclass::text, ',') from pg_index \
        where indexrelid::regclass::text like '%datastream_latest%'";
    assert_eq!(database.text(index).await.as_deref(), Some("game.results"));
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 1000);
}
