//! Maintenance each minute: a failure of one step does not affect the others.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{TestDatabase, TestServer, eventually, get};

/// One row of five days, beyond the retention of one day, and one of an hour.
const OLD: &str = "insert into datastream.outbox (xid, attachment, round_id, at) \
    values ('3', 1, 1, now() - interval '5 days'), ('4', 1, 1, now() - interval '1 hour')";

async fn trimmed(database: &TestDatabase) {
    let old = "select count(*)::text from datastream.outbox where xid = '3'";
    eventually("the outbox to be trimmed", || async {
        (database.text(old).await.as_deref() == Some("0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reconciliation_timeout_is_logged_with_a_remedy_and_the_outbox_is_trimmed() {
    let database = TestDatabase::new().await;
    // As slow as the reconciliation of a large table without its index.
    database
        .run(
            "create or replace function datastream.reconcile(since xid8) returns bigint \
             language sql security definer as 'select 0::bigint from pg_sleep(3600)'",
        )
        .await;
    database.run(OLD).await;
    // Enough time for the other steps on a busy machine.
    let hurried = format!("{}?options=-c%20statement_timeout%3D5s", database.url());
    let server = TestServer::on(hurried).env("DATASTREAM_LISTEN_URL", database.url()).start().await;
    trimmed(&database).await;
    let log = eventually("a log line about it", || async {
        let log = server.log().join("\n");
        log.contains("comparing the rounds with the outbox failed").then_some(log)
    })
    .await;
    assert!(log.contains("datastream attach --index"), "{log}");
    // The following steps run as well.
    eventually("the age of what is kept", || async {
        let metrics = get(&server.http("/metrics")).await.body;
        let age = metrics.lines().find(|line| line.starts_with("datastream_outbox_oldest_age_"));
        age?.rsplit(' ').next()?.parse::<f64>().ok().filter(|age| *age > 3_000.0)
    })
    .await;
    server.counts("datastream_reconciliations_total 0").await;
}

#[tokio::test]
async fn rounds_are_reconciled_if_the_outbox_cannot_be_trimmed() {
    let database = TestDatabase::new().await;
    database.run("alter function datastream.trim(interval, integer) rename to cut").await;
    let skip = "begin; set local datastream.skip = 'on'; insert into rounds (game_id, finished_at) \
        select id, now() from games where slug = 'crash'; commit";
    database.run(skip).await;
    let server = TestServer::on(database.url()).start().await;
    server.counts("datastream_rounds_reconciled_total 1").await;
    eventually("a log line about it", || async {
        server.log().join("\n").contains("deleting old outbox rows failed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reconnect_during_maintenance_starts_another_maintenance_at_once() {
    let database = TestDatabase::new().await;
    // Blocks until the test continues.
    database
        .run(
            "create or replace function datastream.reconcile(since xid8) returns bigint \
             language sql security definer as 'select 0::bigint from pg_advisory_xact_lock(1)'",
        )
        .await;
    let mut held = database.pool.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *held).await.expect("a lock");
    let server = TestServer::on(database.url()).start().await;
    let waits = "select count(*)::text from pg_locks where locktype = 'advisory' and not granted \
        and database = (select oid from pg_database where datname = current_database())";
    eventually("the comparison", || async {
        (database.text(waits).await.as_deref() == Some("1")).then_some(())
    })
    .await;
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name like 'datastream listen%'",
        )
        .await;
    server.counts("datastream_listener_connects_total 2").await;
    server.ready().await;
    held.commit().await.expect("a commit");
    server.counts("datastream_reconciliations_total 2").await;
}

/// What each task returns, as text: the rows, or nothing.
async fn tasks(database: &TestDatabase) -> [Option<String>; 2] {
    [
        database.text("select datastream.reconcile('0')::text").await,
        database.text("select datastream.trim('1 day', 100)::text").await,
    ]
}

#[tokio::test]
async fn a_role_that_can_only_connect_stops_no_maintenance() {
    let database = TestDatabase::new().await;
    let stranger = format!("{}_stranger", database.name);
    database.run(&format!("create role {stranger} login; {OLD}")).await;
    let url = database.url_through(database.address.tcp_port);
    let url = url.replace("postgres@", &format!("{stranger}@"));
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let keys = "select pg_advisory_lock(7264, key) from generate_series(1, 9) key";
    sqlx::raw_sql(keys).execute(&mut connection).await.expect("every key");
    for table in ["reconcile_lock", "trim_lock", "trimmed", "outbox"] {
        let lock = format!("begin; lock table datastream.{table} in access share mode");
        let refused = sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await;
        assert!(refused.expect_err(table).to_string().contains("permission denied"));
        sqlx::raw_sql("rollback").execute(&mut connection).await.expect("a rollback");
    }
    let skip = "begin; set local datastream.skip = 'on'; insert into rounds (id, game_id, finished_at) \
        select 900, id, now() from games where slug = 'crash'; commit";
    database.run(skip).await;
    assert_eq!(tasks(&database).await, [Some("1".to_owned()), Some("1".to_owned())]);
}

#[tokio::test]
async fn a_task_that_another_session_does_says_so_and_nothing_to_do_is_no_rows() {
    let database = TestDatabase::new().await;
    let nothing = [Some("0".to_owned()), Some("0".to_owned())];
    assert_eq!(tasks(&database).await, nothing);
    for (task, busy) in [("reconcile('0')", 0), ("trim('1 day', 100)", 1)] {
        let mut other = database.pool.begin().await.expect("a transaction");
        let call = format!("select datastream.{task}");
        sqlx::raw_sql(AssertSqlSafe(call)).execute(&mut *other).await.expect(task);
        let mut expected = nothing.clone();
        expected[busy] = None;
        assert_eq!(tasks(&database).await, expected, "{task}");
        other.commit().await.expect("a commit");
        assert_eq!(tasks(&database).await, nothing, "{task}");
    }
}
