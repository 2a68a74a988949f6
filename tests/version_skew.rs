//! A program and a schema of different versions: docs/upgrade.md.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::{Output, datastream},
};

/// A migration that this program does not have.
const LATER: &str = "insert into datastream._sqlx_migrations \
    values (20990101000800, 'of a later program', now(), true, '\\x00', 0)";
/// It says that earlier programs may go on.
const COMPATIBLE: &str = "insert into datastream.compatible_migrations values (20990101000800)";

async fn refused(database: &TestDatabase) -> Output {
    let serve = datastream(&["serve"]).env("DATABASE_URL", database.url());
    let output = serve.env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0").run().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    output
}

#[tokio::test]
async fn an_earlier_server_goes_on_and_starts_after_a_migration_that_says_so() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash?seed=none")).await;
    database.run(&format!("{LATER}; {COMPATIBLE}")).await;
    database.terminate_server_sessions().await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    let started = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(started.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, round);
}

#[tokio::test]
async fn an_earlier_server_streams_until_it_reconnects_after_a_migration_that_does_not_say_so() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash?seed=none")).await;
    database.run(LATER).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    database.terminate_server_sessions().await;
    server.unready().await;
    let output = refused(&database).await;
    assert!(output.stderr.contains("has migration 20990101000800"), "{}", output.stderr);
    // Its streams stay open, and go on if the schema allows it.
    let missed = database.finish("crash", "{}").await;
    database.run(COMPATIBLE).await;
    assert_eq!(client.next_round().await.round_id, missed);
    server.ready().await;
}

#[tokio::test]
async fn a_later_server_ends_on_an_earlier_schema_and_says_what_to_run() {
    let database = TestDatabase::new().await;
    let last = "delete from datastream._sqlx_migrations where version = 20260117000700";
    database.run(last).await;
    let output = refused(&database).await;
    assert!(output.stderr.contains("run: datastream migrate"), "{}", output.stderr);
}
