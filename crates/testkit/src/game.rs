//! A game's existing database, and commands to run on it.

use super::{
    TestDatabase,
    binary::{Output, datastream, program},
    cluster::installation,
};

/// An existing game with its own names, types, partitions, triggers and migrations.
pub const GAME: &str = r#"
    create schema game;
    create table public._sqlx_migrations (version bigint primary key, description text not null,
      installed_on timestamptz not null default now(), success boolean not null,
      checksum bytea not null, execution_time bigint not null);
    insert into public._sqlx_migrations values (1, 'theirs', now(), true, '\x00', 1);
    create table game.titles (id smallint primary key, code text not null, title varchar(40), kind text);
    insert into game.titles values (1, 'crash', 'Crash', 'multiplier'), (2, 'double', 'Double', 'color'),
      (3, 'wheel', null, null);
    create table game.results (result_id integer generated always as identity primary key,
      title_id smallint references game.titles, ended_at timestamp, payload json, stake numeric, note text);
    create table game.audit (line bigint generated always as identity, what text);
    create function game.note() returns trigger language plpgsql as
      $$ begin insert into game.audit (what) values (tg_op || ' ' || new.result_id); return null; end $$;
    create trigger own_audit after insert or update on game.results for each row execute function game.note();
    create table public.rounds (number int primary key, ended text);
    create table public.games (code char(3) primary key);
"#;

/// The command in the README, "Your own tables".
const CONTRACT: [&str; 18] = [
    "--table",
    "game.results",
    "--id",
    "result_id",
    "--finished-at",
    "ended_at",
    "--extras",
    "payload",
    "--game-id",
    "title_id",
    "--games",
    "game.titles",
    "--games-id",
    "id",
    "--games-slug",
    "code",
    "--games-name",
    "title",
];

pub fn contract(more: &[&'static str]) -> Vec<&'static str> {
    [&CONTRACT[..], &["--games-type", "kind"], more].concat()
}

pub async fn migrated_game(sql: &str) -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.run(sql).await;
    let output = run(&database, "migrate", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    database
}

pub async fn run(database: &TestDatabase, command: &str, args: &[&str]) -> Output {
    datastream(&[&[command], args].concat()).env("DATABASE_URL", database.url()).run().await
}

pub async fn attach(database: &TestDatabase, args: &[&str]) -> Output {
    let output = run(database, "attach", args).await;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    output
}

pub async fn refused(database: &TestDatabase, args: &[&str]) -> String {
    let output = run(database, "attach", args).await;
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    output.stderr
}

pub async fn psql(database: &TestDatabase, args: &[&str]) -> Output {
    let psql = installation().bin().join("psql").display().to_string();
    let url = database.url();
    program(&psql, &[&[url.as_str(), "-X", "-q"], args].concat()).run().await
}

/// The schema as pg_dump prints it, without the random key of each run.
pub async fn dump(database: &TestDatabase) -> String {
    let pg_dump = installation().bin().join("pg_dump").display().to_string();
    let url = database.url();
    let output = program(&pg_dump, &["-s", &url]).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let lines = output.stdout.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

pub const INSERT: &str = "insert into game.results (title_id, ended_at, payload) \
    values (1, '2026-01-17 00:45:42.5', '{\"point\":  \"11.72\"}')";

/// A game with names that must be quoted, and partitions.
pub const PLAY_GROUND: &str = "create schema \"Play Ground\"; \
         create table \"Play Ground\".\"Titles\" (\"Id\" bigint primary key, \"Slug\" text, \"Name\" text, \"Type\" text); \
         insert into \"Play Ground\".\"Titles\" values (1, 'crash', 'Crash', 'multiplier'); \
         create table \"Play Ground\".\"Rounds\" (\"Round\" bigint not null, \"game Id\" bigint not null, \
           \"ended\"\"At\" timestamptz, \"Extras\" jsonb, primary key (\"Round\")) partition by range (\"Round\"); \
         create table \"Play Ground\".\"one\" partition of \"Play Ground\".\"Rounds\" for values from (0) to (1000); \
         create table \"Play Ground\".\"Two\" partition of \"Play Ground\".\"Rounds\" for values from (1000) to (2000)";
pub const ATTACH_PLAY_GROUND: [&str; 21] = [
    "--table",
    "\"Play Ground\".\"Rounds\"",
    "--id",
    "Round",
    "--game-id",
    "game Id",
    "--finished-at",
    "ended\"At",
    "--extras",
    "Extras",
    "--games",
    "\"Play Ground\".\"Titles\"",
    "--games-id",
    "Id",
    "--games-slug",
    "Slug",
    "--games-name",
    "Name",
    "--games-type",
    "Type",
    "--index",
];

/// The options for a table with the columns `id` and `at` that contains rounds of one game.
pub fn dice<'a>(table: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let names = ["--slug", "dice", "--type", "chance", "--game-id-value", "77"];
    [&["--table", table, "--finished-at", "at"], &names[..], more].concat()
}
