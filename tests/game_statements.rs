//! Statements of a game have the same results as before: transactions, triggers, roles, visible rows.

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient, eventually,
    game::{GAME, INSERT, attach, contract, migrated_game, psql},
};

#[tokio::test]
async fn a_game_can_still_prepare_transactions() {
    let cluster = DedicatedCluster::start_with(&[("max_prepared_transactions", "5")]);
    let database = TestDatabase::on(&cluster.address()).await;
    database
        .run(
            &GAME
                .replace("create table public.rounds", "create table public.r2")
                .replace("create table public.games", "create table public.g2"),
        )
        .await;
    let output = attach(&database, &contract(&[])).await;
    assert!(output.stdout.contains("capture is poll"), "{}", output.stdout);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run(&format!("begin; {INSERT}; prepare transaction 'two phases'")).await;
    database.run(INSERT).await;
    assert_eq!(client.next_round().await.round_id, 2);
    database.run("commit prepared 'two phases'").await;
    assert_eq!(client.next_round().await.round_id, 1);
}

#[tokio::test]
async fn a_finished_at_set_by_a_trigger_of_the_game_finishes_the_round() {
    let database = migrated_game(GAME).await;
    database
        .run(
            "create function game.finish() returns trigger language plpgsql as \
               $$ begin if new.note = 'over' then new.ended_at := now(); end if; return new; end $$; \
             create trigger zz_finish before insert or update on game.results \
               for each row execute function game.finish()",
        )
        .await;
    attach(&database, &contract(&[])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into game.results (title_id, note) values (1, 'over'), (1, null)").await;
    assert_eq!(client.next_round().await.round_id, 1);
    database.run("update game.results set note = 'over' where result_id = 2").await;
    assert_eq!(client.next_round().await.round_id, 2);
    let audit = "select string_agg(what, ', ' order by line) from game.audit";
    assert_eq!(database.text(audit).await.as_deref(), Some("INSERT 1, INSERT 2, UPDATE 2"));
}

#[tokio::test]
async fn writes_with_replica_role_are_found_by_reconciliation_or_an_always_trigger() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let replica = "set session_replication_role = replica; \
        insert into game.results (title_id, ended_at) values (1, now() at time zone 'UTC'); \
        reset session_replication_role";
    database.run(replica).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, 1, "the seed");
    let recorded = "select count(*)::text from datastream.outbox where round_id = 1";
    eventually("reconciliation", || async {
        (database.text(recorded).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    database.run("alter table game.results enable always trigger datastream_inserted").await;
    database.run(replica).await;
    // Reconciliation found the first round before the client connected (its seed) or after.
    let seen = testkit::round::ids(&client.rounds_until(2).await);
    assert!(seen == [2] || seen == [1, 2], "{seen:?}");
    attach(&database, &contract(&["--capture", "poll", "--replace"])).await;
    database.run(replica).await;
    assert_eq!(client.next_round().await.round_id, 3, "attached again, it stays enabled");
}

/// Statements of a game and everything that it can observe: tags, rows, errors and the final state. The
/// same script runs with and without the triggers.
const SCRIPT: &str = r#"
    \set VERBOSITY verbose
    \set SHOW_CONTEXT never
    insert into game.results (title_id, ended_at, payload) values (1, now(), '{}'), (2, null, null) returning result_id, title_id;
    insert into game.results (title_id, ended_at, payload)
      select 1, now(), json_build_object('long', repeat('é', 20000)) returning result_id;
    update game.results set ended_at = now() where ended_at is null returning result_id;
    update game.results set note = 'x' where false;
    insert into game.results (title_id) values (99);
    insert into game.results (result_id) values (1);
    insert into game.results (title_id, ended_at, payload) values (1, now(), 'no json');
    insert into game.results (title_id, ended_at) values (1, 'infinity'), (1, '-infinity'), (1, '290000-01-01') returning result_id;
    begin; savepoint a; insert into game.results (title_id, ended_at) values (1, now()); rollback to a;
    insert into game.results (title_id, ended_at) values (1, now()); commit;
    begin isolation level serializable; insert into game.results (title_id, ended_at) values (2, now()) returning result_id; commit;
    merge into game.results r using (select 1 as id) s on r.result_id = s.id when matched then update set note = 'merged';
    copy game.results (title_id, ended_at) from stdin;
1	2026-01-01
2	\N
\.
    with gone as (delete from game.results where result_id = 2 returning *) select count(*) from gone;
    set role game_writer;
    insert into game.results (title_id, ended_at) values (1, now()) returning result_id;
    update game.results set ended_at = '2026-02-02' where ended_at is null returning result_id;
    delete from game.results;
    reset role;
    select result_id, title_id, ended_at is null, length(payload::text), note from game.results order by 1;
    select what from game.audit order by line;
    truncate game.results;
    select count(*) from game.results;
"#;

const WRITER: &str = "do $$ begin create role game_writer; exception when duplicate_object or unique_violation then null; end $$; \
    grant usage on schema game to game_writer; \
    grant select, insert, update on game.results to game_writer; \
    grant insert on game.audit to game_writer";

#[tokio::test]
async fn statements_of_a_game_have_the_same_results_with_and_without_triggers() {
    let alone = TestDatabase::empty().await;
    alone.run(GAME).await;
    alone.run(WRITER).await;
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), SCRIPT.replace("\n    ", "\n")).expect("written");
    let path = script.path().display().to_string();
    let expected = psql(&alone, &["-a", "-f", &path]).await;
    assert!(expected.stdout.contains("INSERT") || expected.stdout.contains("result_id"));
    for more in [&[][..], &["--capture", "notify"], &["--capture", "poll"]] {
        let attached = migrated_game(GAME).await;
        attached.run(WRITER).await;
        attach(&attached, &contract(more)).await;
        let got = psql(&attached, &["-a", "-f", &path]).await;
        assert_eq!(got.stdout, expected.stdout, "{more:?}");
        assert_eq!(got.stderr, expected.stderr, "{more:?}");
    }
}
