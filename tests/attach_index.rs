//! The seed index of an attached table: its definition, its validity, and its removal by detach.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use testkit::{
    TestDatabase,
    binary::datastream,
    eventually,
    game::{GAME, attach, contract, dice, migrated_game, run},
    wait::{beside, within},
};

/// The created indexes except that of the migrations, by table, with their columns.
const OURS: &str = "select string_agg(format('%s %s', o.indrelid, \
    substring(pg_get_indexdef(o.indexrelid) from 'btree (.*) WHERE')), '; ' order by o.indrelid::text) \
    from datastream.own_indexes() o join pg_index i on i.indexrelid = o.indexrelid where i.indisvalid and o.indrelid::text <> 'rounds'";
/// The number of invalid indexes.
const INVALID: &str = "select count(*)::text from pg_index where not indisvalid";

/// A partitioned table, and two tables that may become partitions; the first is older than the parent.
const PARTS: &str = "create table early (id bigint primary key, at timestamptz, n int); \
    create table parts (id bigint primary key, at timestamptz, n int) partition by range (id); \
    create table one partition of parts for values from (1000) to (2000); \
    create table two partition of parts for values from (2000) to (3000)";

fn parts(more: &[&'static str]) -> Vec<&'static str> {
    dice("parts", &[&["--extras-columns", "n"], more].concat())
}

async fn ours(database: &TestDatabase) -> String {
    database.text(OURS).await.unwrap_or_default()
}

/// The session in which this statement waits for another session. A concurrent index build also waits
/// briefly for this query itself.
async fn waits(database: &TestDatabase, statement: &str) -> i32 {
    let waiting = format!(
        "select max(pid)::text from pg_stat_activity where datname = current_database() \
         and query like '{statement}%' and cardinality(pg_blocking_pids(pid)) > 0 \
         and pg_backend_pid() <> all (pg_blocking_pids(pid))"
    );
    let waiting = eventually(format!("{statement} to wait"), || database.text(&waiting)).await;
    waiting.parse().expect("a number")
}

#[tokio::test]
async fn attach_rebuilds_an_index_with_another_definition() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let by_id = "game.results (title_id, ended_at DESC, result_id DESC)";
    assert_eq!(ours(&database).await, by_id);
    database.run("alter table game.results add round_no bigint unique not null").await;
    let replaced = contract(&["--replace", "--index"]);
    let named = |name: &'static str| -> Vec<&str> {
        let column = |word: &&'static str| if *word == "result_id" { name } else { word };
        replaced.iter().map(column).collect()
    };
    let output = attach(&database, &named("round_no")).await;
    assert!(output.stdout.contains("drop index concurrently game."), "{}", output.stdout);
    assert_eq!(ours(&database).await, by_id.replace("result_id", "round_no"));
    let output = attach(&database, &named("round_no")).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
    // The index follows a renamed column.
    database.run("alter table game.results rename round_no to \"No\"").await;
    let output = attach(&database, &named("No")).await;
    assert!(!output.stdout.contains("index"), "{}", output.stdout);
    // A time zone needs no other index.
    let zone = [&named("No")[..], &["--time-zone", "Asia/Kolkata"]].concat();
    let output = attach(&database, &zone).await;
    assert!(!output.stdout.contains("index"), "{}", output.stdout);
}

#[tokio::test]
async fn attach_reports_a_large_table_whose_index_has_another_definition() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database
        .run("insert into game.results (title_id, note) select 1, 'n' from generate_series(1, 30000)")
        .await;
    let by_note = ["--finished-at", "noted_at", "--replace"];
    database.run("alter table game.results add noted_at timestamp").await;
    let args = contract(&[]);
    let at = args.iter().position(|word| *word == "--finished-at").expect("an option");
    let args = [&args[..at], &args[at + 2..], &by_note[..]].concat();
    let output = attach(&database, &args).await;
    assert!(output.stderr.contains("no index for the latest round"), "{}", output.stderr);
}

#[tokio::test]
async fn attach_rebuilds_an_index_that_a_deadlock_left_invalid() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    let mut writer = database.pool.acquire().await.expect("a connection");
    let open = "begin; insert into game.results (title_id) values (1)";
    sqlx::raw_sql(open).execute(&mut *writer).await.expect("an open transaction");
    let mut options = contract(&["--index"]);
    options.insert(0, "attach");
    let building = beside(datastream(&options).env("DATABASE_URL", database.url()).run());
    waits(&database, "create index concurrently datastream").await;
    // The game's build waits for that of attach, and vice versa; attach must detect the deadlock.
    let (game, mut session) = (database.clone(), database.pool.acquire().await.expect("one"));
    let theirs = beside(async move {
        let _pool = game;
        let build = "create index concurrently theirs on game.results (note)";
        sqlx::raw_sql("set deadlock_timeout = '1h'").execute(&mut *session).await?;
        sqlx::raw_sql(build).execute(&mut *session).await
    });
    waits(&database, "create index concurrently theirs").await;
    sqlx::raw_sql("commit").execute(&mut *writer).await.expect("a commit");
    theirs.await.expect("an end").expect("the game's index");
    let output = building.await.expect("an end");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("deadlock detected"), "{}", output.stderr);
    assert!(output.stdout.contains("drop index concurrently game.datastream"), "{}", output.stdout);
    assert_eq!(database.text(INVALID).await.as_deref(), Some("0"));
    assert!(ours(&database).await.contains("game.results"));
}

#[tokio::test]
async fn attach_completes_an_interrupted_index_of_a_partition_while_new_partitions_are_added() {
    let database = migrated_game(PARTS).await;
    attach(&database, &parts(&[])).await;
    let mut writer = database.pool.acquire().await.expect("a connection");
    let open = "begin; insert into two values (2000, null, 1)";
    sqlx::raw_sql(open).execute(&mut *writer).await.expect("an open transaction");
    let index = [vec!["attach"], parts(&["--index"])].concat();
    let building = beside(datastream(&index).env("DATABASE_URL", database.url()).run());
    let pid = waits(&database, "create index concurrently datastream").await;
    database.run(&format!("select pg_cancel_backend({pid})")).await;
    let output = building.await.expect("an end");
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert_ne!(database.text(INVALID).await.as_deref(), Some("0"));
    sqlx::raw_sql("commit").execute(&mut *writer).await.expect("a commit");
    database.run("alter table parts attach partition early for values from (0) to (1000)").await;
    attach(&database, &parts(&["--index"])).await;
    assert_eq!(database.text(INVALID).await.as_deref(), Some("0"));
    let whole = ["early", "one", "parts", "two"].map(|table| format!("{table} (at DESC, id DESC)"));
    assert_eq!(ours(&database).await, whole.join("; "));
    let output = attach(&database, &parts(&["--index"])).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
}

/// Attaches with the index until the log contains this text.
async fn build_until_logged(database: &TestDatabase, told: &str) -> Child {
    let index = [vec!["attach"], contract(&["--index"])].concat();
    let mut run = datastream(&index).env("DATABASE_URL", database.url());
    let mut child = run.command.stderr(Stdio::piped()).spawn().expect("the binary");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    within(format!("`{told}` in the log"), async {
        while let Some(line) = lines.next_line().await.expect("a read") {
            if line.contains(told) {
                return;
            }
        }
        panic!("the program ended without a word");
    })
    .await;
    // Closes the pipe: a full one would block the process.
    beside(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test]
async fn an_index_build_that_waits_for_a_transaction_names_its_session() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&[])).await;
    let mut writer = database.pool.acquire().await.expect("a connection");
    let open = "begin; insert into game.results (title_id) values (1)";
    sqlx::raw_sql(open).execute(&mut *writer).await.expect("an open transaction");
    let holder = "select pg_backend_pid()";
    let holder: i32 = sqlx::query_scalar(holder).fetch_one(&mut *writer).await.expect("a pid");
    let told = format!("the index build waits for pid {holder} (");
    let mut interrupted = build_until_logged(&database, &told).await;
    let pid = waits(&database, "create index concurrently datastream").await;
    database.run(&format!("select pg_cancel_backend({pid})")).await;
    let status = within("the end of the build", interrupted.wait()).await.expect("a status");
    assert_eq!(status.code(), Some(1));
    // The next run drops the invalid index first, and that waits as well.
    let mut again = build_until_logged(&database, &told).await;
    waits(&database, "drop index concurrently").await;
    sqlx::raw_sql("commit").execute(&mut *writer).await.expect("a commit");
    let status = within("the end of the build", again.wait()).await.expect("a status");
    assert!(status.success(), "{status}");
    assert!(ours(&database).await.contains("game.results"));
}

#[tokio::test]
async fn attach_rebuilds_a_partitioned_index_that_contains_an_invalid_one() {
    let database = migrated_game(PARTS).await;
    attach(&database, &parts(&["--index"])).await;
    // As after a failed REINDEX CONCURRENTLY or an older version of attach.
    let spoil = "update pg_index set indisvalid = false where indrelid in ('two'::regclass, 'parts'::regclass) \
        and indexrelid::regclass::text ~ 'datastream'";
    database.run(spoil).await;
    attach(&database, &parts(&["--index"])).await;
    assert_eq!(database.text(INVALID).await.as_deref(), Some("0"));
    assert_eq!(ours(&database).await.matches("DESC").count(), 6);
}

#[tokio::test]
async fn detach_drops_the_indexes_that_remain_on_partitions() {
    let database = migrated_game(PARTS).await;
    attach(&database, &parts(&["--index"])).await;
    database.run("create table other (id bigint primary key, at timestamptz, n int)").await;
    let other: Vec<&str> = parts(&["--index"])
        .into_iter()
        .map(|word| match word {
            "parts" => "other",
            "77" => "78",
            "dice" => "wheel",
            word => word,
        })
        .collect();
    attach(&database, &other).await;
    database
        .run(
            "alter table parts attach partition early for values from (0) to (1000); \
             alter table parts detach partition early; alter table parts detach partition one",
        )
        .await;
    let output = run(&database, "detach", &["--table", "parts"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(ours(&database).await, "other (at DESC, id DESC)", "and nothing of another table's");
}

#[tokio::test]
async fn a_copy_of_the_index_on_another_table_is_that_table_s_own() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database.run("create table public.archive (like game.results including all)").await;
    let output = run(&database, "detach", &["--table", "game.results"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let seeds = "select string_agg(indrelid::regclass::text, ',') from pg_index \
        where pg_get_indexdef(indexrelid) ~ 'ended_at DESC'";
    assert_eq!(database.text(seeds).await.as_deref(), Some("archive"));
}

#[tokio::test]
async fn an_index_that_outlived_the_schema_is_replaced_and_detach_drops_it() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database.run("drop schema datastream cascade").await;
    attach(&database, &contract(&["--index"])).await;
    assert_eq!(ours(&database).await, "game.results (title_id, ended_at DESC, result_id DESC)");
    let renamed = "alter index game.datastream_latest_1 rename to datastream_latest_results";
    database.run(renamed).await;
    let output = run(&database, "detach", &["--table", "game.results"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let left =
        "select count(*)::text from pg_index where pg_get_indexdef(indexrelid) ~ 'ended_at DESC'";
    assert_eq!(database.text(left).await.as_deref(), Some("0"));
}
