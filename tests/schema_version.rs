//! A schema that other migrations made than those of this program: earlier ones, later ones, others.

use std::env;

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::{Output, datastream, path, program},
    doctor::{assert_well, findings, told},
    game,
};

async fn migrate(database: &TestDatabase) -> Output {
    datastream(&["migrate"]).env("DATABASE_URL", database.url()).run().await
}

/// As an earlier text of the migrations would have left it.
const EARLIER: &str = "update datastream._sqlx_migrations set checksum = '\\x00' \
    where version = (select max(version) from datastream._sqlx_migrations)";
/// A migration that this program does not have.
const EIGHTH: &str = "insert into datastream._sqlx_migrations \
    values (20990101000800, 'of a later program', now(), true, '\\x00', 0)";

/// Runs what `migrate` prints for a schema of an earlier text, in a shell; returns it.
async fn replace(database: &TestDatabase) -> String {
    let refused = migrate(database).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("20260117000800 had another text"), "{}", refused.stderr);
    let (_, commands) = refused.stderr.trim().rsplit_once("lost): ").expect("commands");
    let folder = path().parent().expect("a folder").display().to_string();
    let given = env::var("PATH").unwrap_or_default();
    let shell = program("sh", &["-c", commands]).env("PATH", format!("{folder}:{given}"));
    let output = shell.env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(0), "{commands}: {}{}", output.stdout, output.stderr);
    commands.to_owned()
}

#[tokio::test]
async fn a_schema_of_an_earlier_text_is_replaced_by_the_commands_that_migrate_prints() {
    let database = TestDatabase::migrated_with(&["--capture", "poll"]).await;
    let kept = database.finish("crash", "{}").await;
    database.run(EARLIER).await;
    let commands = replace(&database).await;
    assert!(commands.starts_with("datastream migrate --revert && datastream migrate && "));
    assert_eq!(migrate(&database).await.code, Some(0));
    let mode = database.text("select capture from datastream.attached").await;
    assert_eq!(mode.as_deref(), Some("poll"), "{commands}");
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, kept);
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn a_game_with_its_own_tables_is_attached_again_and_gets_no_others() {
    let database = TestDatabase::empty().await;
    database.run(game::GAME).await;
    database.run("drop table public.rounds, public.games").await;
    game::attach(&database, &game::contract(&[])).await;
    let before = "select row(relation, capture, options)::text from datastream.attached";
    let attached = database.text(before).await;
    database.run(EARLIER).await;
    let commands = replace(&database).await;
    assert!(!commands.contains("datastream migrate &&"), "{commands}");
    assert_eq!(database.text(before).await, attached, "{commands}");
    let made = "select to_regclass('public.rounds')::text";
    assert_eq!(database.text(made).await, None, "{commands}");
}

#[tokio::test]
async fn doctor_accepts_a_later_migration_only_if_it_says_so() {
    let database = TestDatabase::new().await;
    assert_well(&findings(&database.url(), "migrations", &[]).await, "migrations");
    database.run(EIGHTH).await;
    let found = findings(&database.url(), "migrations", &[]).await;
    let unknown = told(&found, "failed", "has migration 20990101000800, which this program");
    assert!(unknown.remedy.contains("or a later one"), "{unknown:?}");
    let refused = migrate(&database).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("Use the newer version"), "{refused:?}");
    database.run("insert into datastream.compatible_migrations values (20990101000800)").await;
    let found = findings(&database.url(), "migrations", &[]).await;
    assert_well(&found, "migrations");
    assert!(found[0].says.contains("20990101000800"), "{found:?}");
}

#[tokio::test]
async fn doctor_says_what_to_run_where_a_migration_is_missing() {
    let database = TestDatabase::new().await;
    database.run("delete from datastream._sqlx_migrations where version = 20260117000800").await;
    let found = findings(&database.url(), "migrations", &[]).await;
    let missing = told(&found, "failed", "lacks migrations of this program: 20260117000800");
    assert_eq!(missing.remedy, "run: datastream migrate");
}
