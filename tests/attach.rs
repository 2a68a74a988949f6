//! Existing databases of games: tables are attached, streamed and detached without blocking the game.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::datastream,
    eventually,
    game::{
        ATTACH_PLAY_GROUND, GAME, INSERT, PLAY_GROUND, attach, contract, dice, dump, migrated_game,
        psql, refused, run,
    },
    wait::{beside, seen_once},
};

#[tokio::test]
async fn a_table_with_its_own_column_names_is_attached_and_streamed() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run(INSERT).await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, round.game_id), (1, 1));
    assert_eq!((&*round.game_slug, &*round.game_type), ("crash", "multiplier"));
    assert_eq!(round.finished_at, "2026-01-17T00:45:42.5Z");
    assert_eq!(round.extras, r#"{"point": "11.72"}"#);
    database.run("insert into game.results (title_id) values (1)").await;
    database.run("update game.results set ended_at = now() where result_id = 2").await;
    assert_eq!(client.next_round().await.extras, "{}");
    let games = testkit::get(&server.http("/games")).await.body;
    assert!(games.contains("\"slug\":\"double\"") && !games.contains("wheel"), "{games}");
    let page = testkit::get(&server.http("/rounds/crash?limit=5")).await.body;
    assert!(page.contains("\"round_id\":2") && page.contains("11.72"), "{page}");
}

#[tokio::test]
async fn attaching_again_changes_nothing_and_other_options_need_replace() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let attached = dump(&database).await;
    let output = attach(&database, &contract(&["--index"])).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
    assert_eq!(dump(&database).await, attached);
    let poll = contract(&["--capture", "poll"]);
    let told = refused(&database, &poll).await;
    assert!(told.contains("attached in another way") && told.contains("--replace"), "{told}");
    attach(&database, &[&poll[..], &["--replace"]].concat()).await;
    // Options that are not given stay unchanged.
    let output = attach(&database, &contract(&[])).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
}

#[tokio::test]
async fn attach_and_detach_leave_the_schema_dump_unchanged() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    let before = dump(&database).await;
    let output = run(&database, "migrate", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let migrated = dump(&database).await;
    attach(&database, &contract(&["--index"])).await;
    let output = run(&database, "detach", &["--table", "game.results"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(dump(&database).await, migrated, "after detach");
    attach(&database, &contract(&["--index"])).await;
    let output = run(&database, "detach", &["--table", "game.results"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    database.run("drop schema datastream cascade").await;
    assert_eq!(dump(&database).await, before, "after drop schema");
    let theirs = "select string_agg(description, ',') from public._sqlx_migrations";
    assert_eq!(database.text(theirs).await.as_deref(), Some("theirs"));
}

/// A game with other table names than `rounds` and `games`.
fn other_names() -> String {
    GAME.replace("create table public.rounds", "create table public.plays")
        .replace("create table public.games", "create table public.rules")
}

#[tokio::test]
async fn attach_creates_nothing_outside_its_schema_for_tables_of_other_names() {
    let ways: [&[&str]; 2] = [&[], &["migrate", "--no-tables"]];
    for first in ways {
        let database = TestDatabase::empty().await;
        database.run(&other_names()).await;
        let before = dump(&database).await;
        if let [command, flag] = first {
            let output = run(&database, command, &[flag]).await;
            assert_eq!(output.code, Some(0), "{}", output.stderr);
        }
        let output = attach(&database, &contract(&["--index"])).await;
        assert!(output.stdout.contains("game.results is attached"), "{}", output.stdout);
        assert!(!output.stderr.contains("public.rounds"), "{}", output.stderr);
        let foreign = "select string_agg(tablename, ' ' order by tablename) from pg_tables \
            where schemaname = 'public'";
        let foreign = database.text(foreign).await;
        assert_eq!(foreign.as_deref(), Some("_sqlx_migrations plays rules"));
        // A second run changes nothing.
        let output = run(&database, "migrate", &[]).await;
        assert!(output.stdout.contains("up to date"), "{}{}", output.stdout, output.stderr);
        assert_eq!(run(&database, "detach", &["--table", "game.results"]).await.code, Some(0));
        database.run("drop schema datastream cascade").await;
        assert_eq!(dump(&database).await, before);
    }
}

#[tokio::test]
async fn attach_creates_the_schema_for_a_table_named_rounds() {
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table games (id int primary key, slug text, name text, type text); \
              create table rounds (id int primary key, game_id int, finished_at timestamptz, extras text)",
        )
        .await;
    let output = attach(&database, &["--table", "rounds", "--capture", "poll"]).await;
    assert!(
        output.stdout.contains("public.rounds is attached; capture is poll"),
        "{}",
        output.stdout
    );
}

#[tokio::test]
async fn the_sql_of_a_dry_run_attaches_the_table() {
    let (one, other) = (migrated_game(GAME).await, migrated_game(GAME).await);
    let before = dump(&one).await;
    let sql = attach(&one, &contract(&["--index", "--dry-run"])).await.stdout;
    assert_eq!(dump(&one).await, before, "a dry run changes nothing");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &sql).expect("written");
    let path = file.path().display().to_string();
    let output = psql(&one, &["-v", "ON_ERROR_STOP=1", "-f", &path]).await;
    assert_eq!(output.code, Some(0), "{sql}\n{}", output.stderr);
    attach(&other, &contract(&["--index"])).await;
    assert_eq!(dump(&one).await, dump(&other).await);
    // If the schema does not exist, its SQL comes first; a second run changes nothing.
    let alone = TestDatabase::empty().await;
    alone.run(GAME).await;
    let before = dump(&alone).await;
    let sql = attach(&alone, &contract(&["--index", "--dry-run"])).await.stdout;
    assert_eq!(dump(&alone).await, before, "a dry run makes no schema");
    std::fs::write(file.path(), &sql).expect("written");
    let output = psql(&alone, &["-v", "ON_ERROR_STOP=1", "-f", &path]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(dump(&alone).await, dump(&other).await);
    let output = run(&alone, "migrate", &[]).await;
    assert!(output.stdout.contains("up to date"), "{}{}", output.stdout, output.stderr);
    let sql = run(&one, "detach", &["--table", "game.results", "--dry-run"]).await.stdout;
    assert!(sql.contains("drop trigger datastream_inserted"), "{sql}");
    assert_eq!(dump(&one).await, dump(&other).await);
}

#[tokio::test]
async fn attach_reports_a_long_transaction_instead_of_waiting_for_it() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    let mut writer = database.pool.acquire().await.expect("a connection");
    sqlx::raw_sql(
        "set application_name = 'batch'; begin; insert into game.results (title_id) values (1)",
    )
    .execute(&mut *writer)
    .await
    .expect("an open transaction");
    let age = "select count(*)::text from pg_stat_activity where application_name = 'batch' \
        and datname = current_database() and xact_start < clock_timestamp() - interval '5.1 s'";
    eventually("a transaction of 5 s", || async {
        (database.text(age).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    let poll = contract(&["--replace", "--capture", "poll"]);
    let all: [(&str, &[&str]); 3] = [
        ("attach", &poll),
        ("migrate", &["--capture", "poll"]),
        ("detach", &["--table", "game.results"]),
    ];
    for (command, args) in all {
        let output = run(&database, command, args).await;
        assert_eq!(output.code, Some(1), "{command}: {}", output.stdout);
        for word in ["game.results is locked by pid ", "batch", "idle in transaction", "since 20"] {
            assert!(output.stderr.contains(word), "{command}: {word} in {}", output.stderr);
        }
    }
    sqlx::raw_sql("commit").execute(&mut *writer).await.expect("a commit");
    for (command, args) in all {
        let output = run(&database, command, args).await;
        assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
    }
}

#[tokio::test]
async fn attach_retries_a_short_lock_and_does_not_block_the_game_between_attempts() {
    let database = migrated_game(GAME).await;
    let mut writer = database.pool.acquire().await.expect("a connection");
    sqlx::raw_sql("begin; insert into game.results (title_id) values (1)")
        .execute(&mut *writer)
        .await
        .expect("an open transaction");
    let mut options = contract(&[]);
    options.insert(0, "attach");
    let attaching = beside(datastream(&options).env("DATABASE_URL", database.url()).run());
    let waits = async |who: &str| {
        let waiting = format!(
            "select count(*)::text from pg_locks l join pg_stat_activity a using (pid) \
             where not l.granted and l.relation = 'game.results'::regclass and a.query ~ '{who}'"
        );
        database.text(&waiting).await.as_deref() == Some("1")
    };
    let attach_waits = async || {
        eventually("attach to wait", || async { waits("datastream.attach").await.then_some(()) })
            .await;
    };
    // Later writers wait behind attach until it gives up its lock request.
    seen_once("a later writer that waits", async || {
        attach_waits().await;
        let other = database.clone();
        let later =
            beside(async move { other.run("insert into game.results (note) values ('b')").await });
        let waited = eventually("the later writer to wait or write", || async {
            let waited = waits("^insert into game.results .note").await;
            (waited || later.is_finished()).then_some(waited)
        })
        .await;
        later.await.expect("the later writer's round, while the first is still at it");
        waited
    })
    .await;
    attach_waits().await;
    sqlx::raw_sql("commit").execute(&mut *writer).await.expect("a commit");
    let output = attaching.await.expect("an end");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("attempt 1 of 10"), "{}", output.stderr);
}

#[tokio::test]
async fn attach_reports_ids_that_two_tables_share() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    database.run("create table game.old (like game.results including all)").await;
    database.run(INSERT).await;
    database.run("insert into game.old (title_id, ended_at) values (1, now())").await;
    let old: Vec<&str> = contract(&[])
        .iter()
        .map(|word| if *word == "game.results" { "game.old" } else { word })
        .collect();
    let told = refused(&database, &old).await;
    assert!(told.contains("1 is in game.old and in game.results"), "{told}");
    database.run("delete from game.old").await;
    let output = attach(&database, &[&old[..], &["--dry-run"]].concat()).await;
    let remedy = "alter sequence game.old_result_id_seq restart with 1000000000";
    assert!(output.stderr.contains(remedy), "{}", output.stderr);
    database.run("insert into game.old (title_id, ended_at) values (1, now())").await;
    database.run("update game.old set result_id = default; alter table game.old alter result_id restart 1000").await;
    database.run("delete from game.old").await;
    let output = attach(&database, &old).await;
    assert!(output.stderr.contains("must not overlap"), "{}", output.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash?game=double")).await;
    client.next_round().await;
    database.run("insert into game.old (title_id, ended_at) values (2, now())").await;
    assert_eq!(client.next_round().await.game_slug, "double");
}

#[tokio::test]
async fn a_round_of_a_game_with_a_negative_id_is_streamed_at_once() {
    let database = migrated_game("create table odd (id bigint primary key, at timestamptz)").await;
    let game = ["--slug", "dice", "--type", "chance", "--game-id-value=-5"];
    let table = ["--table", "odd", "--finished-at", "at", "--extras-columns", "id"];
    attach(&database, &[&table[..], &game].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    let output = psql(&database, &["-c", "insert into odd values (1, now())"]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(client.next_round().await.game_id, -5);
}

#[tokio::test]
async fn attach_reports_sequences_used_in_defaults_that_will_share_ids() {
    let database = migrated_game(
        "create sequence one; create sequence other; \
         create table a (id bigint primary key default nextval('one'), at timestamptz); \
         create table b (id bigint primary key default nextval('other'), at timestamptz); \
         create table c (id bigint primary key default nextval('one'), at timestamptz)",
    )
    .await;
    attach(&database, &dice("a", &["--extras-columns", "id"])).await;
    let told = attach(&database, &dice("b", &["--extras-columns", "id", "--dry-run"])).await;
    let remedy = "alter sequence public.other restart with 1000000000";
    assert!(told.stderr.contains(remedy), "{}", told.stderr);
    let told = attach(&database, &dice("c", &["--extras-columns", "id", "--dry-run"])).await;
    assert!(!told.stderr.contains("public.c and public.a"), "{}", told.stderr);
}

#[tokio::test]
async fn a_constant_game_and_a_game_in_columns_of_the_round_are_streamed() {
    let database = migrated_game(
        "create table wheel (id bigint primary key, at timestamp, a int, \"B c\" text); \
         create table plays (id bigint primary key, finished_at timestamptz, extras text, \
           game_id int, slug text, kind text)",
    )
    .await;
    let wheel = [
        "--table",
        "wheel",
        "--finished-at",
        "at",
        "--extras-columns",
        "a,B c",
        "--slug",
        "wheel",
        "--type",
        "fortune",
        "--game-id-value",
        "77",
        "--time-zone",
        "Europe/Berlin",
    ];
    attach(&database, &wheel).await;
    attach(&database, &["--table", "plays", "--slug-column", "slug", "--type-column", "kind"])
        .await;
    database.run("insert into plays values (1000, now(), '{\"x\":1}', 5, 'dice', 'chance')").await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws?game=wheel&game=dice")).await;
    assert_eq!(client.next_round().await.extras, "{\"x\": 1}");
    database.run("insert into wheel values (1, '2026-07-01 12:00', 5, 'd')").await;
    let round = client.next_round().await;
    assert_eq!(round.finished_at, "2026-07-01T10:00:00Z", "summer time in Berlin");
    assert_eq!(round.extras, r#"{"a": 5, "B c": "d"}"#);
    assert_eq!((round.game_id, &*round.game_type), (77, "fortune"));
}

#[tokio::test]
async fn quoted_names_and_partitions_are_attached_with_their_index() {
    let database = migrated_game(PLAY_GROUND).await;
    let before = dump(&database).await;
    attach(&database, &ATTACH_PLAY_GROUND).await;
    let invalid = "select count(*)::text from pg_index where not indisvalid";
    assert_eq!(database.text(invalid).await.as_deref(), Some("0"));
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run("insert into \"Play Ground\".\"Rounds\" values (1, 1, now(), '{}')").await;
    assert_eq!(client.next_round().await.round_id, 1);
    database.run("insert into \"Play Ground\".\"Two\" values (1001, 1, now(), '{}')").await;
    assert_eq!(client.next_round().await.round_id, 1001, "straight into a partition");
    database.run("create table \"Play Ground\".three partition of \"Play Ground\".\"Rounds\" for values from (2000) to (3000)").await;
    database.run("insert into \"Play Ground\".\"Rounds\" values (2001, 1, null, '{}')").await;
    database.run("update \"Play Ground\".three set \"ended\"\"At\" = now()").await;
    assert_eq!(client.next_round().await.round_id, 2001, "a later partition");
    drop(server);
    database.run("drop table \"Play Ground\".three").await;
    let output = run(&database, "detach", &["--table", "\"Play Ground\".\"Rounds\""]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(dump(&database).await, before);
}

#[tokio::test]
async fn attach_and_migrate_report_a_large_table_without_its_index() {
    let database = migrated_game(GAME).await;
    let told = "no index for the latest round of a game on game.results";
    let output = attach(&database, &contract(&[])).await;
    assert!(!output.stderr.contains(told), "of a small one: {}", output.stderr);
    database
        .run("insert into game.results (title_id, note) select 1, 'n' from generate_series(1, 30000)")
        .await;
    let output = run(&database, "migrate", &[]).await;
    assert!(output.stderr.contains(told) && output.stdout.contains("up to date"), "{output:?}");
    let output = attach(&database, &contract(&[])).await;
    assert!(output.stderr.contains(told) && output.stderr.contains("--index"), "{output:?}");
    let output = attach(&database, &contract(&["--index"])).await;
    assert!(!output.stderr.contains(told), "{}", output.stderr);
    let output = run(&database, "migrate", &[]).await;
    assert!(!output.stderr.contains(told), "{}", output.stderr);
}
