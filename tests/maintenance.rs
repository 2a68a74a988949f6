//! Maintenance each minute: a failure of one step does not affect the others.

use testkit::{TestDatabase, TestServer, eventually, get};

/// One row of five days, beyond the retention of one day, and one of an hour.
const OLD: &str = "insert into datastream.outbox (xid, round_id, at) \
    values ('3', 1, now() - interval '5 days'), ('4', 1, now() - interval '1 hour')";

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
    let log = eventually("a word about it", || async {
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
    eventually("a word about it", || async {
        server.log().join("\n").contains("trimming the outbox failed").then_some(())
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
             where datname = current_database() and application_name = 'datastream listen'",
        )
        .await;
    server.counts("datastream_listener_connects_total 2").await;
    server.ready().await;
    held.commit().await.expect("a commit");
    server.counts("datastream_reconciliations_total 2").await;
}
