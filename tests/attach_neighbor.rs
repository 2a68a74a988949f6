//! The schema `datastream` beside the game's: names, dumps, and tables of TimescaleDB.

use std::process::Stdio;

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::program,
    cluster::installation,
    game::{GAME, attach, contract, dice, psql},
};

#[tokio::test]
async fn no_search_path_makes_our_schema_hide_a_table_of_the_game() {
    let database = TestDatabase::new().await;
    // A role of the name of our schema, whose own schema comes first by default.
    let role = "do $$ begin if not exists (select from pg_roles where rolname = 'datastream') then \
        create role datastream superuser login; end if; end $$";
    database.run(role).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    for path in ["\"$user\", public", "datastream, public"] {
        let play = format!(
            "set role datastream; set search_path = {path}; \
             insert into games (slug, name, type) values ('g' || md5('{path}'), 'G', 'new'); \
             insert into rounds (game_id, finished_at) select max(id), now() from games"
        );
        let output = psql(&database, &["-v", "ON_ERROR_STOP=1", "-c", &play]).await;
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{path}");
        assert_eq!(client.next_round().await.game_type, "new", "{path}");
    }
    let plain = "select string_agg(relname, ',') from pg_class \
        where relnamespace = 'datastream'::regnamespace and relname in ('games', 'rounds', 'results', 'players')";
    assert_eq!(database.text(plain).await, None);
}

#[tokio::test]
async fn a_dump_of_the_game_s_schema_restores_with_its_rows_and_the_index() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    let copy = TestDatabase::empty().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (dump, list) = (folder.path().join("dump"), folder.path().join("list"));
    let (dump, list) = (dump.display().to_string(), list.display().to_string());
    let bin = installation().bin().to_path_buf();
    let run = async |name: &str, args: &[&str]| {
        let output = program(&bin.join(name).display().to_string(), args).run().await;
        assert_eq!(output.code, Some(0), "{name}: {}", output.stderr);
        output.stdout
    };
    let url = database.url();
    run("pg_dump", &["-Fc", "-n", "game", "-f", &dump, "-d", &url]).await;
    let lines = run("pg_restore", &["-l", &dump]).await;
    let ours = |line: &&str| !(line.contains(" TRIGGER ") && line.contains(" datastream_"));
    let kept: Vec<&str> = lines.lines().filter(ours).collect();
    assert_eq!(lines.lines().count() - kept.len(), 2, "{lines}");
    std::fs::write(&list, kept.join("\n")).expect("a list");
    run("pg_restore", &["-e", "-L", &list, "-d", &copy.url(), &dump]).await;
    assert_eq!(copy.text("select count(*)::text from game.results").await.as_deref(), Some("1"));
    let index = "select indexdef from pg_indexes where indexname = 'datastream_latest_1'";
    let restored = copy.text(index).await;
    assert_eq!(restored, database.text(index).await);
    assert!(!restored.expect("an index").contains("datastream."));
}

#[tokio::test]
async fn an_empty_hypertable_gets_no_trigger_with_a_transition_table() {
    let database = TestDatabase::empty().await;
    // A stand-in for the extension's catalog.
    database
        .run(
            "create schema _timescaledb_catalog; \
             create table _timescaledb_catalog.hypertable (id int, schema_name name, table_name name); \
             insert into _timescaledb_catalog.hypertable values (1, 'public', 'plays'); \
             create table plays (id bigint generated always as identity, at timestamptz not null, done timestamptz, n int, primary key (id, at))",
        )
        .await;
    let options =
        ["--table", "plays", "--finished-at", "done", "--extras-columns", "n", "--slug", "dice"];
    attach(&database, &[&options[..], &["--type", "chance", "--game-id-value", "1"]].concat())
        .await;
    let tables = "select count(*)::text from pg_trigger where tgnewtable is not null";
    assert_eq!(database.text(tables).await.as_deref(), Some("0"));
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    database.run("insert into plays (at, done) values (now(), now())").await;
    assert_eq!(client.next_round().await.round_id, 1);
    // A chunk inherits from the table; PostgreSQL copies no trigger to it, the extension does.
    database.run("create table chunk () inherits (plays)").await;
    let again = [&options[..], &["--type", "other", "--game-id-value", "1", "--replace"]].concat();
    attach(&database, &again).await;
}

#[tokio::test]
async fn all_problems_are_reported_at_once_before_anything_is_made() {
    let database = TestDatabase::empty().await;
    database
        .run("create table t (a int, b timestamptz not null, c json); create table g (x int)")
        .await;
    let wrong = [
        "attach",
        "--table",
        "t",
        "--id",
        "nr",
        "--finished-at",
        "ended",
        "--extras",
        "data",
        "--game-id",
        "game",
        "--games",
        "g",
        "--id-prefix",
        "no spaces",
        "--index",
    ];
    let output =
        testkit::binary::datastream(&wrong).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    for told in [
        "cannot attach t: ",
        "column \"nr\" does not exist (columns: a, b, c). Pass one of them as --id.",
        "column \"ended\" does not exist (columns: a, b, c). Pass one of them as --finished-at.",
        "column \"data\" does not exist (columns: a, b, c). Pass one of them as --extras.",
        "column \"game\" does not exist (columns: a, b, c). Pass one of them as --game-id.",
        "column \"slug\" of public.g does not exist (columns: x). Pass one of them as --games-slug.",
        "a prefix has 1 to 32 letters",
    ] {
        assert!(output.stderr.contains(told), "{told} in {}", output.stderr);
    }
    assert!(!output.stdout.contains("applied"), "{}", output.stdout);
    let left = "select count(*)::text from pg_namespace where nspname = 'datastream'";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn the_mapping_is_shown_with_a_round_before_a_lock_is_asked_for() {
    let database = TestDatabase::empty().await;
    database.run("create table plays (id bigint primary key, at timestamptz, n int)").await;
    database.run("insert into plays values (7, '2026-01-17 00:45:42Z', 5)").await;
    let mut holder = database.pool.begin().await.expect("a transaction");
    let locked = "lock table plays in row exclusive mode";
    sqlx::query(locked).execute(&mut *holder).await.expect("a lock");
    let options = [&["attach"], &dice("plays", &["--extras-columns", "n"])[..]].concat();
    let mut attaching = testkit::binary::datastream(&options).env("DATABASE_URL", database.url());
    let mut child = attaching.command.stdout(Stdio::piped()).spawn().expect("the binary");
    let lines = tokio::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = tokio::io::AsyncBufReadExt::lines(lines);
    let shown = testkit::within("the mapping", async {
        let mut shown = String::new();
        while !shown.contains("example") {
            shown += &lines.next_line().await.expect("a read").expect("a line");
        }
        shown
    })
    .await;
    assert!(shown.contains("public.plays is streamed as:"), "{shown}");
    let round = r#"{"round_id":7,"game_id":77,"game_slug":"dice","game_type":"chance","finished_at":"2026-01-17T00:45:42Z","extras":"{\"n\": 5}""#;
    assert!(shown.contains(round), "{shown}");
    let triggers = "select count(*)::text from pg_trigger where tgname ~ 'datastream'";
    assert_eq!(database.text(triggers).await.as_deref(), Some("0"));
    holder.rollback().await.expect("an end");
    let status = testkit::within("the end", child.wait()).await.expect("a status");
    assert!(status.success(), "{status}");
    assert_eq!(database.text(triggers).await.as_deref(), Some("2"));
}

/// The game's schema in the manner of Rails' schema.rb: tables and indexes, printed from the catalog, with our
/// index among them.
#[tokio::test]
async fn a_schema_file_with_our_index_loads_into_an_empty_database_and_is_attached_there() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let indexes = "select string_agg(indexdef, '; ') from pg_indexes \
        where tablename = 'results' and indexname not like '%pkey'";
    let indexes = database.text(indexes).await.expect("our index");
    assert!(indexes.contains("datastream_latest_1"), "{indexes}");
    let copy = TestDatabase::empty().await;
    copy.run(GAME).await;
    copy.run(&indexes).await;
    copy.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    attach(&copy, &contract(&["--index"])).await;
    let doctor = testkit::game::run(&copy, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let output = testkit::game::run(&copy, "detach", &["--table", "game.results"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let left = "select count(*)::text from pg_indexes where indexname ~ '^datastream'";
    assert_eq!(copy.text(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_dump_without_our_schema_and_triggers_restores_as_a_database_for_tests() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let bin = installation().bin().join("pg_dump").display().to_string();
    let args = ["-s", "-N", "datastream", "-d", &database.url()];
    let dump = program(&bin, &args).run().await;
    assert_eq!(dump.code, Some(0), "{}", dump.stderr);
    // The command of docs/migration-tools.md: sed '/^CREATE TRIGGER datastream_/d'
    let kept = dump.stdout.lines().filter(|line| !line.starts_with("CREATE TRIGGER datastream_"));
    let kept = kept.collect::<Vec<_>>().join("\n");
    assert!(!kept.contains("EXECUTE FUNCTION datastream."), "each trigger is one line");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("structure.sql");
    std::fs::write(&file, kept).expect("a file");
    let copy = TestDatabase::empty().await;
    let file = file.display().to_string();
    let output = psql(&copy, &["-v", "ON_ERROR_STOP=1", "-f", &file]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    copy.run("insert into game.titles values (1, 'crash', 'Crash', 'multiplier')").await;
    copy.run("insert into game.results (title_id, ended_at) values (1, now())").await;
}
