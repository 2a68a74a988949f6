//! `datastream doctor`: a healthy database, addresses, partitions and this machine. Faults of a database
//! are in `doctor_faults`.

use testkit::{
    TestDatabase,
    binary::program,
    doctor::{assert_well, findings, run, told},
    game::{attach, dice},
};

#[tokio::test]
async fn doctor_reports_ok_for_a_healthy_database() {
    let database = TestDatabase::new().await;
    database.finish("crash", "{}").await;
    let output = run(&database.url(), "doctor", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stdout);
    assert!(
        !output.stdout.contains("FAILED") && !output.stdout.contains("skipped"),
        "{}",
        output.stdout
    );
    for name in ["version", "attached", "listener", "queue", "outbox", "clock", "files", "prepared"]
    {
        assert!(output.stdout.contains(&format!(" {name}: ")), "{name} in {}", output.stdout);
    }
}

#[tokio::test]
async fn doctor_reports_an_unavailable_database_and_a_missing_schema() {
    let away = findings("postgresql://nobody@127.0.0.1:1/none", "connection", &[]).await;
    told(&away, "failed", "127.0.0.1:1");
    let database = TestDatabase::empty().await;
    let missing = findings(&database.url(), "schema", &[]).await;
    told(&missing, "failed", "the schema datastream is missing or empty").follow(&database).await;
    assert_well(&findings(&database.url(), "schema", &[]).await, "schema");
}

#[tokio::test]
async fn doctor_reports_that_no_table_is_attached() {
    let database = TestDatabase::new().await;
    assert_well(&findings(&database.url(), "attached", &[]).await, "attached");
    database.run("select datastream.detach('public.rounds')").await;
    let found = findings(&database.url(), "attached", &[]).await;
    told(&found, "failed", "no table is attached");
}

#[tokio::test]
async fn doctor_reports_a_listen_url_without_notifications() {
    let (database, other) = (TestDatabase::new().await, TestDatabase::empty().await);
    let found = findings(&database.url(), "listener", &["--listen-url", &other.url()]).await;
    told(&found, "failed", "delivers no notifications");
    let away = ["--listen-url", "postgresql://nobody@127.0.0.1:1/none"];
    told(&findings(&database.url(), "listener", &away).await, "failed", "127.0.0.1:1");
}

#[tokio::test]
async fn doctor_reports_a_listener_without_tcp_user_timeout() {
    let database = TestDatabase::new().await;
    let url = database.url_through(database.address.tcp_port);
    assert_well(&findings(&url, "tcp_user_timeout", &[]).await, "tcp_user_timeout");
    let url = format!("{url}?tcp_user_timeout=0");
    told(&findings(&url, "tcp_user_timeout", &[]).await, "warning", "0");
}

#[tokio::test]
async fn doctor_counts_open_files_like_the_server() {
    let database = TestDatabase::new().await;
    let (_, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).expect("a limit");
    // docs/operations.md: 384 descriptors are not for streams.
    let look = async |streams: u64| {
        let streams = streams.to_string();
        findings(&database.url(), "files", &["--max-connections", &streams]).await
    };
    assert_well(&look(hard - 384).await, "files");
    told(&look(hard - 383).await, "warning", &format!("allows {} of {}", hard - 384, hard - 383));
    let few = concat!("ulimit -n 300 && exec ", env!("CARGO_BIN_EXE_datastream"), " doctor");
    let output = program("sh", &["-c", few]).env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert!(
        output.stdout.contains("FAILED   files: a limit of 300 open files"),
        "{}",
        output.stdout
    );
}

#[tokio::test]
async fn doctor_reports_a_disabled_trigger_of_a_partitioned_table_once() {
    let database = TestDatabase::empty().await;
    let parts = "create table parts (id bigint primary key, at timestamptz) partition by range (id); \
        create table one partition of parts for values from (0) to (10); \
        create table two partition of parts for values from (10) to (20)";
    database.run(parts).await;
    attach(&database, &dice("parts", &["--extras-columns", "id"])).await;
    database.run("alter table parts disable trigger datastream_updated").await;
    let found = findings(&database.url(), "attached", &[]).await;
    assert_eq!(found.len(), 1, "{found:?}");
    told(&found, "failed", "datastream_updated on parts is disabled").follow(&database).await;
    assert_well(&findings(&database.url(), "attached", &[]).await, "attached");
    let new_owner = format!("{}_new", database.name);
    let give = format!(
        "create role {new_owner}; grant all on schema public to {new_owner}; alter table parts owner to {new_owner}"
    );
    database.run(&give).await;
    let found = findings(&database.url(), "attached", &[]).await;
    let says = format!("role {new_owner}, the owner of the table, may not create partitions");
    told(&found, "failed", &says).follow(&database).await;
    let more = "create table three partition of parts for values from (20) to (30)";
    database.run(&format!("set role {new_owner}; {more}; reset role")).await;
    assert_well(&findings(&database.url(), "attached", &[]).await, "attached");
    database.run("alter table two disable trigger datastream_updated").await;
    let found = findings(&database.url(), "attached", &[]).await;
    told(&found, "failed", "datastream_updated on two is disabled").follow(&database).await;
    assert_well(&findings(&database.url(), "attached", &[]).await, "attached");
}

#[tokio::test]
async fn doctor_reads_the_current_value_of_a_sequence_in_any_schema() {
    let database = TestDatabase::empty().await;
    let tables = "create schema \"Play Ground\"; \
        create table \"Play Ground\".one (id serial primary key, at timestamptz); \
        create table \"Play Ground\".two (id serial primary key, at timestamptz)";
    database.run(tables).await;
    for table in ["\"Play Ground\".one", "\"Play Ground\".two"] {
        attach(&database, &dice(table, &["--extras-columns", "id"])).await;
    }
    told(&findings(&database.url(), "ids", &[]).await, "warning", "will use the same ids");
    let on = "alter sequence \"Play Ground\".two_id_seq restart with 1000000000";
    database.run(on).await;
    database.run("insert into \"Play Ground\".two (at) values (now())").await;
    assert_well(&findings(&database.url(), "ids", &[]).await, "ids");
}
