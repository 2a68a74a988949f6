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
const PARTS: &str = "create table early (id bigint not null, at timestamptz, n int); \
    create table parts (id bigint not null, at timestamptz, n int) partition by range (id); \
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
    let utc =
        "game.results (title_id, datastream.moment('UTC'::text, ended_at) DESC, result_id DESC)";
    assert_eq!(ours(&database).await, utc);
    let zone = contract(&["--time-zone", "Asia/Kolkata", "--replace", "--index"]);
    let output = attach(&database, &zone).await;
    assert!(output.stdout.contains("drop index concurrently game."), "{}", output.stdout);
    assert_eq!(ours(&database).await, utc.replace("UTC", "Asia/Kolkata"));
    let output = attach(&database, &zone).await;
    assert!(output.stdout.contains("No changes needed"), "{}", output.stdout);
    database.run("alter table game.results add round_no bigint").await;
    let id: Vec<&str> =
        zone.iter().map(|it| if *it == "result_id" { "round_no" } else { it }).collect();
    attach(&database, &id).await;
    let by_number = utc.replace("UTC", "Asia/Kolkata").replace("result_id", "round_no");
    assert_eq!(ours(&database).await, by_number);
    // The index follows a renamed column.
    database.run("alter table game.results rename round_no to \"No\"").await;
    let named: Vec<&str> =
        zone.iter().map(|it| if *it == "result_id" { "No" } else { it }).collect();
    let output = attach(&database, &named).await;
    assert!(!output.stdout.contains("index"), "{}", output.stdout);
}

#[tokio::test]
async fn attach_reports_a_large_table_whose_index_has_another_definition() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    database
        .run("insert into game.results (title_id, note) select 1, 'n' from generate_series(1, 30000)")
        .await;
    let output = attach(&database, &contract(&["--time-zone", "Asia/Kolkata", "--replace"])).await;
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
    let spoil = "update pg_index set indisvalid = false where indrelid in ('two'::regclass, 'parts'::regclass)";
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
async fn a_copy_of_the_index_on_a_table_of_another_owner_does_not_block_detach() {
    let database = migrated_game(GAME).await;
    attach(&database, &contract(&["--index"])).await;
    let boss = format!("{}_boss", database.name);
    let copy = format!(
        "create table public.archive (like game.results including all); \
         create role {boss} login; \
         do $$ begin execute format('grant create on database %I to {boss}', current_database()); end $$; \
         grant all on schema public, datastream, game to {boss}; \
         create table dice (id bigint primary key, at timestamptz, n int); alter table dice owner to {boss}"
    );
    database.run(&copy).await;
    let copied =
        "select count(*)::text from datastream.own_indexes() where indrelid = 'archive'::regclass";
    attach(&database, &dice("dice", &["--extras-columns", "n"])).await;
    assert_eq!(database.text(copied).await.as_deref(), Some("1"), "attaching");
    // A role that may not drop the copy can still detach its own table.
    let hand_over = format!(
        "do $$ declare it record; begin \
           for it in select p.oid::regprocedure as name from pg_proc p where p.pronamespace = 'datastream'::regnamespace loop \
             execute format('alter function %s owner to {boss}', it.name); end loop; \
           for it in select c.oid::regclass as name, case c.relkind when 'v' then 'view' else 'table' end as kind from pg_class c \
               where c.relnamespace = 'datastream'::regnamespace and c.relkind in ('r', 'v') loop \
             execute format('alter %s %s owner to {boss}', it.kind, it.name); end loop; end $$; \
         alter schema datastream owner to {boss}; grant select on all tables in schema game to {boss}"
    );
    database.run(&hand_over).await;
    let detach = format!("set role {boss}; select datastream.detach('public.dice'); reset role");
    database.run(&detach).await;
    assert_eq!(database.text(copied).await.as_deref(), Some("1"), "letting go");
}
