//! Least privilege: `sql/roles.sql`, and server and game with the roles from it.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::{Output, datastream, program},
    cluster::{Address, installation},
    doctor::findings,
    eventually, get,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const GAME: &str = "create schema shop; \
    create table shop.titles (id bigint primary key, slug text, name text, type text); \
    insert into shop.titles values (1, 'crash', 'Crash', 'multiplier'); \
    create table shop.plays (id bigint generated always as identity primary key, game_id bigint, \
      finished_at timestamptz, extras jsonb)";

const ATTACH: [&str; 5] = ["attach", "--table", "shop.plays", "--games", "shop.titles"];

/// A game attached by its owner, and roles for it. Roles are shared by all databases of a cluster, so
/// each test has its own names.
struct Hardened {
    database: TestDatabase,
    owner: String,
    reader: String,
    writer: String,
}

impl Hardened {
    async fn new() -> Self {
        let database = TestDatabase::empty().await;
        database.run(GAME).await;
        succeeded(&datastream(&["migrate"]).env("DATABASE_URL", database.url()).run().await);
        succeeded(&datastream(&ATTACH).env("DATABASE_URL", database.url()).run().await);
        let name = |role: &str| format!("{}_{role}", database.name);
        let (owner, reader, writer) = (name("owner"), name("reader"), name("writer"));
        let grants = format!(
            "create role {writer} login; grant usage on schema shop to {writer}; \
             grant select, insert, update on shop.plays to {writer}"
        );
        database.run(&grants).await;
        let hardened = Self { database, owner, reader, writer };
        hardened.make_roles().await;
        hardened
    }

    async fn make_roles(&self) {
        let psql = installation().bin().join("psql").display().to_string();
        let url = self.database.url();
        let (owner, reader) = (format!("owner={}", self.owner), format!("reader={}", self.reader));
        let file = format!("{ROOT}/sql/roles.sql");
        let args = [&url, "-X", "-q", "-v", &owner, "-v", &reader, "-f", &file];
        succeeded(&program(&psql, &args).run().await);
    }

    fn url_as(&self, role: &str) -> String {
        let url = Address::tcp_url(&self.database.name, self.database.address.tcp_port);
        url.replace("postgres@", &format!("{role}@"))
    }

    /// The error of PostgreSQL for a statement of this role; empty if it succeeds.
    async fn refused(&self, role: &str, sql: &str) -> String {
        let psql = installation().bin().join("psql").display().to_string();
        let url = self.url_as(role);
        program(&psql, &[&url, "-X", "-q", "-c", sql]).run().await.stderr
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn the_server_streams_seeds_and_resumes_as_the_reader() {
    let game = Hardened::new().await;
    let insert = "insert into shop.plays (game_id, finished_at) values (1, now())";
    assert_eq!(game.refused(&game.writer, insert).await, "");
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, 1, "the seed");
    assert_eq!(game.refused(&game.writer, insert).await, "", "the game's role needs no grant");
    assert_eq!(client.next_round().await.round_id, 2);
    drop(server);
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut resumed = WsClient::connect(server.ws("/ws/crash?after=1")).await;
    assert_eq!(resumed.next_round().await.round_id, 2);
    assert!(get(&server.http("/rounds/crash")).await.body.contains("\"round_id\":1"));
    // Maintenance works with the reader's rights: it finds a round that the trigger did not record.
    let skipped = format!("set datastream.skip = 'on'; {insert}");
    assert_eq!(game.refused(&game.writer, &skipped).await, "");
    drop(server);
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let recorded = "select count(*)::text from datastream.outbox where round_id = 3";
    eventually("reconciliation", || async {
        (game.database.text(recorded).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    let log = server.log().join("\n");
    assert!(!log.contains("permission denied"), "{log}");
}

#[tokio::test]
async fn the_reader_and_the_game_have_only_the_rights_they_need() {
    let game = Hardened::new().await;
    for (role, sql) in [
        (&game.reader, "insert into datastream.outbox (attachment, round_id) values (1, 1)"),
        (&game.reader, "delete from datastream.outbox"),
        (&game.reader, "update datastream.attached set capture = 'poll'"),
        (&game.reader, "select * from shop.plays"),
        (&game.reader, "delete from datastream._sqlx_migrations"),
        (&game.reader, "insert into datastream.compatible_migrations values (1)"),
        (&game.reader, "begin; lock table datastream.trim_lock in share mode"),
        (&game.reader, "create table datastream.mine (a int)"),
        (&game.reader, "select datastream.detach('shop.plays')"),
        (&game.writer, "select * from datastream.outbox"),
        (&game.writer, "insert into datastream.outbox (attachment, round_id) values (1, 1)"),
        (&game.writer, "select datastream.reconcile('0')"),
    ] {
        let said = game.refused(role, sql).await;
        assert!(
            said.contains("permission denied") || said.contains("must be owner"),
            "{sql}: {said}"
        );
    }
    let owner = format!(
        "select concat(rolsuper, rolcanlogin, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication) \
         from pg_roles where rolname = '{}'",
        game.owner
    );
    assert_eq!(game.database.text(&owner).await.as_deref(), Some("ffffff"));
    let others = format!(
        "select count(*)::text from pg_proc where pronamespace = 'datastream'::regnamespace \
         and pg_get_userbyid(proowner) <> '{}'",
        game.owner
    );
    assert_eq!(game.database.text(&others).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn attaching_again_keeps_owner_and_reader() {
    let game = Hardened::new().await;
    let replace = [&ATTACH[..], &["--capture", "poll", "--replace"]].concat();
    succeeded(&datastream(&replace).env("DATABASE_URL", game.database.url()).run().await);
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into shop.plays (game_id, finished_at) values (1, now())";
    assert_eq!(game.refused(&game.writer, insert).await, "");
    assert_eq!(client.next_round().await.round_id, 1);
    game.make_roles().await;
    let doctor = datastream(&["doctor"]).env("DATABASE_URL", game.url_as(&game.reader)).run().await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    assert!(!doctor.stdout.contains("skipped"), "{}", doctor.stdout);
}

#[tokio::test]
async fn the_sql_of_a_dry_run_keeps_owner_and_reader() {
    let game = Hardened::new().await;
    let admin = game.database.url();
    let args = [&ATTACH[..], &["--capture", "poll", "--replace", "--dry-run"]].concat();
    let plan = datastream(&args).env("DATABASE_URL", &admin).run().await;
    succeeded(&plan);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), plan.stdout).expect("written");
    let psql = installation().bin().join("psql").display().to_string();
    let path = file.path().display().to_string();
    let args = [&*admin, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &path];
    succeeded(&program(&psql, &args).run().await);
    let doctor = datastream(&["doctor"]).env("DATABASE_URL", game.url_as(&game.reader)).run().await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into shop.plays (game_id, finished_at) values (1, now())";
    assert_eq!(game.refused(&game.writer, insert).await, "");
    assert_eq!(client.next_round().await.round_id, 1);
}

#[tokio::test]
async fn changing_the_capture_mode_keeps_owner_and_reader() {
    let game = Hardened::new().await;
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let insert = "insert into shop.plays (game_id, finished_at) values (1, now())";
    assert_eq!(game.refused(&game.writer, insert).await, "");
    assert_eq!(client.next_round().await.round_id, 1);
    let capture = datastream(&["migrate", "--capture", "poll"]);
    let output = capture.env("DATABASE_URL", game.database.url()).run().await;
    succeeded(&output);
    assert!(output.stdout.contains("shop.plays: capture is poll"), "{}", output.stdout);
    // Without a payload the server reads the round through the recreated view.
    assert_eq!(game.refused(&game.writer, insert).await, "");
    assert_eq!(client.next_round().await.round_id, 2);
    let log = server.log().join("\n");
    assert!(!log.contains("permission denied") && !log.contains("42501"), "{log}");
    let foreign = format!(
        "select count(*)::text from pg_class where relnamespace = 'datastream'::regnamespace \
         and relkind in ('r', 'v') and pg_get_userbyid(relowner) <> '{}'",
        game.owner
    );
    assert_eq!(game.database.text(&foreign).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn the_reader_can_read_recreated_objects_after_a_drop() {
    let game = Hardened::new().await;
    let admin = game.database.url();
    game.database.run("drop table shop.plays cascade").await;
    let detach = datastream(&["detach", "--table", "shop.plays"]);
    succeeded(&detach.env("DATABASE_URL", &admin).run().await);
    game.database
        .run("create table shop.plays (id bigint primary key, game_id bigint, finished_at timestamptz, extras jsonb)")
        .await;
    succeeded(&datastream(&ATTACH).env("DATABASE_URL", &admin).run().await);
    let doctor = datastream(&["doctor"]).env("DATABASE_URL", game.url_as(&game.reader)).run().await;
    succeeded(&doctor);
    let server = TestServer::on(game.url_as(&game.reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    game.database.run("insert into shop.plays values (5, 1, now(), '{}')").await;
    assert_eq!(client.next_round().await.round_id, 5);
}

/// Schema and grants as pg_dump prints them, without the random key of each run.
async fn dump(url: &str) -> String {
    let pg_dump = installation().bin().join("pg_dump").display().to_string();
    let output = program(&pg_dump, &["-s", url]).run().await;
    succeeded(&output);
    let lines = output.stdout.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn an_owner_without_superuser_attaches_creates_the_roles_and_removes_everything() {
    let database = TestDatabase::empty().await;
    let name = |role: &str| format!("{}_{role}", database.name);
    let (boss, owner, reader) = (name("boss"), name("owner"), name("reader"));
    database
        .run(&format!(
            "create role {boss} login createrole; \
             do $$ begin execute format('alter database %I owner to {boss}', current_database()); \
               execute format('revoke connect on database %I from public', current_database()); end $$; \
             alter default privileges revoke execute on functions from public; \
             alter default privileges for role {boss} revoke execute on functions from public"
        ))
        .await;
    let url = |role: &str| {
        Address::tcp_url(&database.name, database.address.tcp_port)
            .replace("postgres@", &format!("{role}@"))
    };
    let psql = installation().bin().join("psql").display().to_string();
    let as_boss = url(&boss);
    let sql = async |args: &[&str]| {
        let args = [&[as_boss.as_str(), "-X", "-q", "-v", "ON_ERROR_STOP=1"], args].concat();
        succeeded(&program(&psql, &args).run().await);
    };
    sql(&["-c", GAME]).await;
    let before = dump(&as_boss).await;
    let attach = [&ATTACH[..], &["--index"]].concat();
    succeeded(&datastream(&attach).env("DATABASE_URL", &as_boss).run().await);
    let (owner_is, reader_is) = (format!("owner={owner}"), format!("reader={reader}"));
    let roles = ["-v", &owner_is, "-v", &reader_is, "-f", &format!("{ROOT}/sql/roles.sql")];
    sql(&roles).await;
    sql(&roles).await;

    let server = TestServer::on(url(&reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    sql(&["-c", "insert into shop.plays (game_id, finished_at) values (1, now())"]).await;
    assert_eq!(client.next_round().await.round_id, 1);
    drop(server);
    let replace = [&ATTACH[..], &["--capture", "poll", "--replace"]].concat();
    succeeded(&datastream(&replace).env("DATABASE_URL", &as_boss).run().await);
    // A migration of the game gives a column that we read another type, and takes it back.
    let server = TestServer::on(url(&reader)).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash?seed=none")).await;
    for (of_type, id) in [("timestamp", 2), ("timestamptz", 3)] {
        let change = format!(
            "begin; select datastream.before_change('shop.plays'); \
             alter table shop.plays alter finished_at type {of_type}; \
             select datastream.after_change('shop.plays'); commit"
        );
        sql(&["-c", &change]).await;
        sql(&["-c", "insert into shop.plays (game_id, finished_at) values (1, now())"]).await;
        assert_eq!(client.next_round().await.round_id, id);
    }
    drop(server);
    let doctor = datastream(&["doctor"]).env("DATABASE_URL", url(&reader)).run().await;
    succeeded(&doctor);

    let detach = ["detach", "--table", "shop.plays"];
    succeeded(&datastream(&detach).env("DATABASE_URL", &as_boss).run().await);
    sql(&["-c", "drop schema datastream cascade"]).await;
    let connect = format!("revoke connect on database {} from {reader}", database.name);
    sql(&["-c", &format!("drop owned by {owner}"), "-c", &connect]).await;
    sql(&["-c", &format!("drop role {owner}, {reader}")]).await;
    assert_eq!(dump(&as_boss).await, before);
}

#[tokio::test]
async fn other_roles_cannot_use_the_trigger_functions_on_their_tables() {
    let game = Hardened::new().await;
    let hang = "create temp table t (id bigint, game_id bigint, finished_at timestamptz, extras jsonb); \
        create trigger x after insert on t referencing new table as new_rounds \
        for each statement execute function datastream.inserted_1()";
    let said = game.refused(&game.reader, hang).await;
    assert!(said.contains("permission denied for function"), "{said}");
}

#[tokio::test]
async fn the_owner_of_a_partitioned_table_can_add_partitions() {
    let database = TestDatabase::new().await;
    let boss = format!("{}_boss", database.name);
    let tables = format!(
        "create role {boss}; create schema parts authorization {boss}; set role {boss}; \
         create table parts.plays (id bigint primary key, finished_at timestamptz, extras jsonb) partition by range (id); \
         reset role; alter default privileges revoke execute on functions from public"
    );
    database.run(&tables).await;
    let attach = [
        "attach",
        "--table",
        "parts.plays",
        "--slug",
        "dice",
        "--type",
        "chance",
        "--game-id-value",
        "7",
    ];
    succeeded(&datastream(&attach).env("DATABASE_URL", database.url()).run().await);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    let more = format!(
        "set role {boss}; create table parts.one partition of parts.plays for values from (0) to (10); \
         insert into parts.one values (1, now(), '{{}}'); reset role"
    );
    database.run(&more).await;
    assert_eq!(client.next_round().await.round_id, 1);
}

#[tokio::test]
async fn a_role_keeps_its_create_right_on_the_database() {
    let database = TestDatabase::new().await;
    let name = |role: &str| format!("{}_{role}", database.name);
    let (owner, reader) = (name("group"), name("reader"));
    let group =
        format!("create role {owner}; grant create on database {} to {owner}", database.name);
    database.run(&group).await;
    let psql = installation().bin().join("psql").display().to_string();
    let (url, file) = (database.url(), format!("{ROOT}/sql/roles.sql"));
    let (owner_is, reader_is) = (format!("owner={owner}"), format!("reader={reader}"));
    let args = [&url, "-X", "-q", "-v", &owner_is, "-v", &reader_is, "-f", &file];
    for _ in 0..2 {
        succeeded(&program(&psql, &args).run().await);
        let may =
            format!("select has_database_privilege('{owner}', current_database(), 'create')::text");
        assert_eq!(database.text(&may).await.as_deref(), Some("true"));
    }
}

#[tokio::test]
async fn a_role_without_usage_of_the_schema_gets_an_error_with_the_grant() {
    let hardened = Hardened::new().await;
    let url = hardened.url_as(&hardened.writer);
    let detach = datastream(&["detach", "--table", "shop.plays"]).env("DATABASE_URL", url);
    let output = detach.run().await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    let grant = format!("grant {} to {}", hardened.owner, hardened.writer);
    assert!(output.stderr.contains(&grant), "{}", output.stderr);
}

#[tokio::test]
async fn doctor_checks_two_tables_as_a_reader_without_rights_on_them() {
    let game = Hardened::new().await;
    let second = "create table shop.spins (id bigint primary key, game_id bigint, \
        finished_at timestamptz, extras jsonb)";
    game.database.run(second).await;
    let attach = ["attach", "--table", "shop.spins", "--games", "shop.titles"];
    succeeded(&datastream(&attach).env("DATABASE_URL", game.database.url()).run().await);
    // (The finding about close sequences remains, with all rights nothing else.)
    let found = findings(&game.url_as(&game.reader), "ids", &[]).await;
    assert!(found.iter().all(|line| line.status == "warning"), "{found:?}");
}
