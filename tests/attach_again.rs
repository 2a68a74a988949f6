//! Attaching again recreates missing objects and adapts to a changed table.

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
async fn attaching_again_recreates_objects_dropped_with_a_table_a_column_or_a_function() {
    for loss in [
        "create table game.new as table game.titles; drop table game.titles cascade; \
         alter table game.new rename to titles; alter table game.titles add primary key (id)",
        "alter table game.results drop column ended_at cascade; alter table game.results add ended_at timestamp",
        "alter table game.results drop column payload cascade; alter table game.results add payload json",
        "drop view datastream.finished_rounds, datastream.attached_games",
        "drop view datastream.attached_1_rounds cascade",
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
async fn migrate_reports_dropped_schema_objects_with_a_working_remedy() {
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
async fn a_table_that_became_a_partition_is_streamed_after_attaching_it_again() {
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
async fn attach_refuses_an_inheritance_parent_and_streams_each_child() {
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
async fn detaching_an_unknown_table_lists_the_attached_ones() {
    let database = migrated_game(PLAY_GROUND).await;
    attach(&database, &ATTACH_PLAY_GROUND).await;
    let output = run(&database, "detach", &["--table", "playground.rounds"]).await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    let named = "Attached: public.rounds, \"Play Ground\".\"Rounds\".";
    assert!(output.stderr.contains(named), "{}", output.stderr);
}
