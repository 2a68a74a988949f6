//! A partitioned table with quoted names under concurrent writers: every round is streamed once.

use futures_util::future::join_all;

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{ATTACH_PLAY_GROUND, PLAY_GROUND, attach, migrated_game, psql},
    round::ids,
};

/// Half of the rounds go to each partition by their ids; each writer has 100 ids.
fn id(writer: usize, number: usize) -> usize {
    (number % 2) * 1000 + writer * 100 + number / 2
}

fn row(id: usize, finished: &str) -> String {
    format!("({id}, 1, {finished}, '{{\"n\": {id}}}')")
}

/// A script with inserts into the table and into its partitions, rounds finished by UPDATE,
/// rollbacks and savepoints.
fn script(writer: usize) -> Vec<String> {
    let table = r#"insert into "Play Ground"."Rounds" values "#;
    let mut script = Vec::new();
    for number in (0..100).step_by(5) {
        let row = |more: usize, finished| row(id(writer, number + more), finished);
        let open = id(writer, number + 1);
        let partition = if id(writer, number + 2) < 1000 { "one" } else { "Two" };
        script.push(format!("{table} {}", row(0, "now()")));
        script.push(format!("{table} {}", row(1, "null")));
        script.push(format!(
            r#"update "Play Ground"."Rounds" set "ended""At" = now() where "Round" = {open}"#
        ));
        script
            .push(format!(r#"insert into "Play Ground"."{partition}" values {}"#, row(2, "now()")));
        let (lost, kept) = (row(3, "now()"), row(4, "now()"));
        script.push(format!("begin; {table} {lost}; rollback"));
        script.push(format!(
            "begin; savepoint a; {table} {lost}; rollback to a; {table} {lost}, {kept}; commit"
        ));
    }
    script
}

async fn by_psql(database: &TestDatabase, writer: usize) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), script(writer).join(";\n") + ";\n").expect("written");
    let path = file.path().display().to_string();
    let output = psql(database, &["-v", "ON_ERROR_STOP=1", "-f", &path]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
}

async fn by_driver(database: &TestDatabase, writer: usize) {
    for statement in script(writer) {
        database.run(&statement).await;
    }
}

async fn every_round_comes_once(capture: &'static str) {
    let database = migrated_game(PLAY_GROUND).await;
    attach(&database, &[&ATTACH_PLAY_GROUND[..], &["--capture", capture]].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    tokio::join!(
        join_all((0..4).map(|writer| by_driver(&database, writer))),
        join_all((4..6).map(|writer| by_psql(&database, writer))),
    );
    let mut expected: Vec<_> = (0..6)
        .flat_map(|writer| (0..100).map(move |number| id(writer, number)))
        .map(|id| i64::try_from(id).expect("an id"))
        .collect();
    expected.sort_unstable();
    let rounds = client.rounds(expected.len()).await;
    assert!(rounds.iter().all(|round| round.extras == format!("{{\"n\": {}}}", round.round_id)));
    let mut came = ids(&rounds);
    came.sort_unstable();
    assert_eq!(came, expected);
    database
        .run(&format!(r#"insert into "Play Ground"."Rounds" values {}"#, row(999, "now()")))
        .await;
    assert_eq!(client.next_round().await.round_id, 999, "something came twice");
}

#[tokio::test]
async fn every_round_of_a_partitioned_table_with_six_writers_is_streamed_once_in_auto() {
    every_round_comes_once("auto").await;
}

#[tokio::test]
async fn every_round_of_a_partitioned_table_with_six_writers_is_streamed_once_in_notify() {
    every_round_comes_once("notify").await;
}

#[tokio::test]
async fn every_round_of_a_partitioned_table_with_six_writers_is_streamed_once_in_poll() {
    every_round_comes_once("poll").await;
}
