//! Migrations by `datastream migrate` and by sqlx-cli, up and down, beside existing tables.

use std::{
    env,
    path::{Path, PathBuf},
};

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::{Output, datastream, program},
    game::psql,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// sqlx-cli: built by `make test`, or the one in `$SQLX`. Without it these tests print that they are
/// skipped.
fn sqlx() -> Option<PathBuf> {
    let built = PathBuf::from(ROOT).join(".datastream/cargo/bin/sqlx");
    let found = env::var_os("SQLX").map_or(built, PathBuf::from);
    if found.exists() {
        return Some(found);
    }
    assert!(env::var_os("SQLX").is_none(), "no sqlx-cli at {}", found.display());
    eprintln!("skipped: no sqlx-cli; `make test` builds it");
    None
}

async fn run_sqlx(sqlx: &Path, folder: &str, url: &str, args: &[&str]) -> Output {
    let run = program(&sqlx.display().to_string(), &[&["migrate"], args].concat());
    run.env("DATABASE_URL", url).current_dir(folder).run().await
}

async fn migrate(database: &TestDatabase) -> Output {
    let output = datastream(&["migrate"]).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output
}

/// The catalog of the schema and of existing objects, as text.
async fn catalog(database: &TestDatabase) -> String {
    let sql = "select string_agg(line, E'\\n' order by line) from (
        select format('relation %s %s', c.oid::regclass, c.relkind) as line from pg_class c
          join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'datastream')
        union all select format('column %s %s %s %s %s', a.attrelid::regclass, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
          from pg_attribute a join pg_class c on c.oid = a.attrelid
          join pg_namespace n on n.oid = c.relnamespace
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          where n.nspname in ('public', 'datastream') and a.attnum > 0 and not a.attisdropped
        union all select pg_get_functiondef(p.oid) from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
          where n.nspname in ('public', 'datastream') and p.prokind = 'f'
        union all select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
        union all select pg_get_indexdef(indexrelid) from pg_index i
          join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ('public', 'datastream')
        union all select pg_get_viewdef(c.oid) from pg_class c
          join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'datastream' and relkind = 'v'
        ) lines";
    database.text(sql).await.unwrap_or_default()
}

/// Remaining objects of the schema, except the schema itself and its migration table.
async fn leftovers(database: &TestDatabase) -> String {
    let lines = catalog(database).await;
    let ours = |line: &&str| line.contains("datastream") && !line.contains("_sqlx_migrations");
    lines.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_revert_drops_neither_tables_of_the_game_nor_tables_with_hidden_rows() {
    let database = TestDatabase::new().await;
    database.run("select datastream.detach('public.rounds'); drop table rounds, games").await;
    database.run("create table games (id bigint primary key, title text)").await;
    let revert = async |database: &TestDatabase, url: String| {
        let output = datastream(&["migrate", "--revert"]).env("DATABASE_URL", url).run().await;
        let left = "select to_regclass('public.games')::text";
        assert_eq!(database.text(left).await.as_deref(), Some("games"), "{output:?}");
        output.code
    };
    assert_eq!(revert(&database, database.url()).await, Some(0));
    let hidden = TestDatabase::empty().await;
    let owner = format!("{}_owner", hidden.name);
    let give = format!(
        "create role {owner} login; grant create on schema public to {owner}; \
         do $$ begin execute format('alter database %I owner to {owner}', current_database()); end $$"
    );
    hidden.run(&give).await;
    let url =
        hidden.url_through(hidden.address.tcp_port).replace("postgres@", &format!("{owner}@"));
    let migrate = datastream(&["migrate"]).env("DATABASE_URL", &url).run().await;
    assert_eq!(migrate.code, Some(0), "{}", migrate.stderr);
    let rows = "insert into games (slug, name, type) values ('crash', 'Crash', 'multiplier'); \
        insert into rounds (game_id, finished_at) select id, now() from games; \
        alter table rounds enable row level security; alter table rounds force row level security";
    hidden.run(rows).await;
    assert_eq!(revert(&hidden, url).await, Some(1));
    assert_eq!(hidden.text("select count(*)::text from rounds").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn sqlx_migrate_and_datastream_migrate_create_the_same_schema() {
    let Some(sqlx) = sqlx() else { return };
    let (ours, theirs) = (TestDatabase::empty().await, TestDatabase::empty().await);
    migrate(&ours).await;
    let output = run_sqlx(&sqlx, ROOT, &theirs.url(), &["run"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(catalog(&ours).await, catalog(&theirs).await);
    // Each finds No changes needed after the other.
    migrate(&theirs).await;
    let output = run_sqlx(&sqlx, ROOT, &ours.url(), &["run"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(catalog(&ours).await, catalog(&theirs).await);
}

#[tokio::test]
async fn a_revert_on_an_empty_database_leaves_only_the_migration_table() {
    let Some(sqlx) = sqlx() else { return };
    let database = TestDatabase::empty().await;
    migrate(&database).await;
    let up = catalog(&database).await;
    let revert = ["revert", "--target-version", "0"];
    let output = run_sqlx(&sqlx, ROOT, &database.url(), &revert).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(leftovers(&database).await, "");
    let tables = database.text("select to_regclass('public.games')::text").await;
    assert_eq!(tables, None, "tables we made, and that hold nothing, are dropped");
    migrate(&database).await;
    assert_eq!(catalog(&database).await, up);
}

#[tokio::test]
async fn a_revert_keeps_tables_with_rows() {
    let Some(sqlx) = sqlx() else { return };
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    let revert = ["revert", "--target-version", "0"];
    let output = run_sqlx(&sqlx, ROOT, &database.url(), &revert).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(leftovers(&database).await, "");
    assert_eq!(database.text("select count(*)::text from rounds").await.as_deref(), Some("1"));
    database.finish("crash", "{}").await;
}

#[tokio::test]
async fn a_revert_keeps_tables_that_existed_before() {
    let Some(sqlx) = sqlx() else { return };
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table games (id bigint primary key, slug text not null unique, \
               name text not null, type text not null); \
             create table rounds (id bigint primary key, game_id bigint not null references games, \
               finished_at timestamptz, extras jsonb not null default '{}')",
        )
        .await;
    let before = catalog(&database).await;
    migrate(&database).await;
    let revert = ["revert", "--target-version", "0"];
    let output = run_sqlx(&sqlx, ROOT, &database.url(), &revert).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let after = catalog(&database).await;
    let kept: Vec<&str> = after.lines().filter(|l| !l.contains("_sqlx_migrations")).collect();
    for line in before.lines() {
        assert!(kept.contains(&line), "{line} is gone");
    }
}

#[tokio::test]
async fn sqlx_from_another_folder_fails_with_the_folder_to_use() {
    let Some(sqlx) = sqlx() else { return };
    let database = TestDatabase::empty().await;
    let source = format!("{ROOT}/migrations");
    let args = ["run", "--source", source.as_str()];
    let output = run_sqlx(&sqlx, "/", &database.url(), &args).await;
    assert_ne!(output.code, Some(0));
    let told = format!("{}{}", output.stdout, output.stderr);
    assert!(told.contains("run sqlx from the project root"), "{told}");
}

#[tokio::test]
async fn sqlx_and_migrate_no_tables_create_the_same_schema() {
    let Some(sqlx) = sqlx() else { return };
    let (ours, theirs) = (TestDatabase::empty().await, TestDatabase::empty().await);
    let no_tables = datastream(&["migrate", "--no-tables"]).env("DATABASE_URL", ours.url());
    assert_eq!(no_tables.run().await.code, Some(0));
    let run = program(&sqlx.display().to_string(), &["migrate", "run"]).current_dir(ROOT);
    let off = "-c datastream.tables=off";
    let output = run.env("DATABASE_URL", theirs.url()).env("PGOPTIONS", off).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(catalog(&ours).await, catalog(&theirs).await);
    let made = "select coalesce(to_regclass('public.games'), to_regclass('public.rounds'))::text";
    assert_eq!(ours.text(made).await, None);
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let database = TestDatabase::empty().await;
    migrate(&database).await;
    let first = catalog(&database).await;
    migrate(&database).await;
    assert_eq!(catalog(&database).await, first);
}

#[tokio::test]
async fn concurrent_migrations_both_succeed() {
    let database = TestDatabase::empty().await;
    tokio::join!(migrate(&database), migrate(&database));
    let server = TestServer::on(database.url()).start().await;
    assert_eq!(testkit::get(&server.http("/games")).await.body, "[]");
}

#[tokio::test]
async fn all_created_objects_are_in_the_schema_datastream() {
    let database = TestDatabase::empty().await;
    migrate(&database).await;
    let sql = "select count(*)::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'public' and c.relkind in ('r', 'v', 'm', 'p') and relname not in ('games', 'rounds')";
    assert_eq!(database.text(sql).await.as_deref(), Some("0"));
    let sql = "select count(*)::text from pg_proc where pronamespace = 'public'::regnamespace";
    assert_eq!(database.text(sql).await.as_deref(), Some("0"));
    let sql = "select to_regclass('datastream._sqlx_migrations')::text";
    assert_eq!(database.text(sql).await.as_deref(), Some("datastream._sqlx_migrations"));
}

#[tokio::test]
async fn detaching_and_dropping_the_schema_removes_all_objects_and_writes_still_succeed() {
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    // The seed index is a plain one of the game's table: `detach` drops it.
    database.run("select datastream.detach('public.rounds'); drop schema datastream cascade").await;
    assert_eq!(leftovers(&database).await, "");
    let sql = "select count(*)::text from pg_trigger where not tgisinternal";
    assert_eq!(database.text(sql).await.as_deref(), Some("0"));
    let open = database.open("crash").await;
    database.finish_open(open, "{}").await;
    database.finish("crash", "{}").await;
}

#[tokio::test]
async fn the_migration_table_of_a_game_is_unchanged() {
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table _sqlx_migrations (version bigint primary key, description text not null, \
               installed_on timestamptz not null default now(), success boolean not null, \
               checksum bytea not null, execution_time bigint not null); \
             insert into _sqlx_migrations values (1, 'theirs', now(), true, '\\x00', 1)",
        )
        .await;
    migrate(&database).await;
    let sql = "select string_agg(description, ',') from public._sqlx_migrations";
    assert_eq!(database.text(sql).await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn a_rounds_table_with_other_columns_is_unchanged_and_migrate_names_the_remedy() {
    let database = TestDatabase::empty().await;
    database.run("create table rounds (number int primary key, ended timestamp, data json)").await;
    let output = migrate(&database).await;
    let told = format!("{}{}", output.stdout, output.stderr);
    assert!(told.contains("datastream attach"), "{told}");
    let sql = "select count(*)::text from pg_trigger where not tgisinternal";
    assert_eq!(database.text(sql).await.as_deref(), Some("0"));
    database.run("insert into rounds values (1, now(), '{}')").await;
    let run = datastream(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0");
    let output = run.run().await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("Run: datastream attach"), "{}", output.stderr);
}

#[tokio::test]
async fn existing_tables_with_matching_columns_are_streamed() {
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table games (id bigint primary key, slug text not null unique, \
               name text not null, type text not null); \
             create table rounds (id bigint primary key, game_id bigint not null references games, \
               finished_at timestamptz, extras jsonb not null default '{}'); \
             insert into games values (7, 'crash', 'Crash', 'multiplier'); \
             insert into rounds values (70, 7, now(), '{\"point\": \"2.00\"}')",
        )
        .await;
    migrate(&database).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, 70);
    database.run("insert into rounds values (71, 7, now(), '{}')").await;
    assert_eq!(client.next_round().await.round_id, 71);
}

#[tokio::test]
async fn the_example_insert_works_as_its_comment_says() {
    let database = TestDatabase::empty().await;
    migrate(&database).await;
    let server = TestServer::on(database.url()).start().await;
    let files = ["sample_games", "example_insert"].map(|name| format!("{ROOT}/sql/{name}.sql"));
    let args = ["-v", "ON_ERROR_STOP=1", "-A", "-t", "-f", &files[0], "-f", &files[1]];
    let output = psql(&database, &args).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout, "1\n");
    let mut client = WsClient::connect(server.ws("/ws/crash?after=")).await;
    let round = client.next_round().await;
    assert_eq!((round.round_id, &*round.extras), (1, r#"{"point": "11.72"}"#));
}
