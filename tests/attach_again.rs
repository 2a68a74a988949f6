//! Attaching again puts back what is missing, and what a table has come to need.

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{ATTACH_PLAY_GROUND, GAME, PLAY_GROUND, attach, contract, migrated_game, refused, run},
};

async fn is_streamed(database: &TestDatabase) {
    let doctor = run(database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into game.results (title_id, ended_at) values (1, now() at time zone 'UTC') \
        returning result_id::text";
    let id = database.text(insert).await;
    assert_eq!(Some(client.next_round().await.round_id.to_string()), id);
}

#[tokio::test]
async fn what_fell_with_a_table_a_column_or_a_function_is_made_anew_by_attaching_again() {
    for loss in [
        "create table game.new as table game.titles; drop table game.titles cascade; \
         alter table game.new rename to titles; alter table game.titles add primary key (id)",
        "alter table game.results drop column ended_at cascade; alter table game.results add ended_at timestamp",
        "alter table game.results drop column payload cascade; alter table game.results add payload json",
        "drop view datastream.finished_rounds, datastream.games",
        "drop view datastream.rounds_1 cascade",
        "drop function datastream.rounds_of, datastream.rounds_by_id",
        "drop function datastream.inserted_1 cascade",
    ] {
        let database = migrated_game(GAME).await;
        attach(&database, &contract(&["--index"])).await;
        database.run(loss).await;
        let output = attach(&database, &contract(&["--index"])).await;
        assert!(output.stdout.contains("game.results is attached"), "{loss}: {}", output.stdout);
        is_streamed(&database).await;
        let output = attach(&database, &contract(&["--index"])).await;
        assert!(output.stdout.contains("No changes needed"), "{loss}: {}", output.stdout);
    }
}

#[tokio::test]
async fn what_of_the_schema_was_dropped_is_told_by_migrate_with_a_remedy_that_works() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    database.run("drop table datastream.outbox").await;
    let output = run(&database, "migrate", &[]).await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    for told in ["datastream.outbox", "drop schema datastream cascade"] {
        assert!(output.stderr.contains(told), "{told} in {}", output.stderr);
    }
    let serve = run(&database, "serve", &["--http-addr", "127.0.0.1:0"]).await;
    assert_eq!(serve.code, Some(1), "{}", serve.stderr);
    assert!(serve.stderr.contains("Run: datastream doctor"), "{}", serve.stderr);
    database.run("drop schema datastream cascade").await;
    assert_eq!(run(&database, "migrate", &[]).await.code, Some(0));
    attach(&database, &contract(&[])).await;
    is_streamed(&database).await;
}

#[tokio::test]
async fn a_table_that_has_become_a_partition_is_streamed_once_it_is_attached_again() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    database
        .run(
            "create table game.all_results (like game.results) partition by list (title_id); \
             alter table game.results alter result_id drop identity; \
             alter table game.all_results attach partition game.results for values in (1)",
        )
        .await;
    let output = attach(&database, &contract(&[])).await;
    assert!(output.stdout.contains("game.results is attached"), "{}", output.stdout);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database
        .run("insert into game.all_results (result_id, title_id, ended_at) values (1, 1, now())")
        .await;
    assert_eq!(client.next_round().await.round_id, 1);
    let output = attach(&database, &contract(&[])).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
}

#[tokio::test]
async fn a_table_that_others_inherit_from_is_refused_and_each_of_them_is_streamed() {
    let database = migrated_game(GAME).await;
    database
        .run("create table game.this_year (primary key (result_id)) inherits (game.results)")
        .await;
    let told = refused(&database, &contract(&[])).await;
    assert!(
        told.contains("game.results has tables that inherit from it, as game.this_year"),
        "{told}"
    );
    let named = |word| if word == "game.results" { "game.this_year" } else { word };
    attach(&database, &contract(&[]).into_iter().map(named).collect::<Vec<_>>()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database
        .run(
            "insert into game.this_year (result_id, title_id) values (1, 1); \
              insert into game.this_year (result_id, title_id, ended_at) values (2, 1, now())",
        )
        .await;
    assert_eq!(client.next_round().await.round_id, 2);
    database.run("update game.results set ended_at = now() where result_id = 1").await;
    assert_eq!(client.next_round().await.round_id, 1, "through the parent");
}

#[tokio::test]
async fn a_name_that_is_not_attached_is_answered_by_those_that_are() {
    let database = migrated_game(PLAY_GROUND).await;
    attach(&database, &ATTACH_PLAY_GROUND).await;
    let output = run(&database, "detach", &["--table", "playground.rounds"]).await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    let named = "Attached: public.rounds, \"Play Ground\".\"Rounds\".";
    assert!(output.stderr.contains(named), "{}", output.stderr);
}
