//! A database restored from a dump or from an older copy of its files: old outbox rows are not
//! streamed, and later rounds are.

use std::process::Stdio;

use embedded_postgres::Stop;
use tokio::process::Command;

use testkit::{
    DedicatedCluster, TestDatabase, TestServer, WsClient, cluster::installation, database_alone,
    eventually, round::ids, serving,
};

/// Makes the outbox look like that of another cluster which is five million transactions ahead.
const OF_ANOTHER_CLUSTER: &str = "update datastream.outbox set \
    xid = (xid::text::bigint + 5000000)::text::xid8, before = (before::text::bigint + 5000000)::text::xid8; \
    insert into datastream.trimmed (xid, at) values ('4900000', now() - interval '1 day') \
    on conflict (one) do update set xid = excluded.xid";

/// Dumps a database and restores it under another name.
async fn restored(from: &TestDatabase) -> TestDatabase {
    let to = TestDatabase::empty_on(&from.address).await;
    let bin = installation().bin().to_path_buf();
    let mut dump = Command::new(bin.join("pg_dump"));
    let mut dump = dump.args(["-d", &from.url()]).stdout(Stdio::piped()).spawn().expect("pg_dump");
    let source: Stdio = dump.stdout.take().expect("a pipe").try_into().expect("a pipe");
    let mut restore = Command::new(bin.join("psql"));
    restore.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &to.url()]).stdin(source);
    let output = restore.stdout(Stdio::null()).output().await.expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dump.wait().await.expect("pg_dump").success());
    to
}

#[tokio::test]
async fn outbox_rows_of_future_transactions_are_not_streamed() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let rounds = database.finish_many("crash", 5).await;
    assert_eq!(ids(&client.rounds(5).await), rounds);
    let foreign = "insert into datastream.outbox (xid, before, attachment, round_id) \
        select '5000000', '5000000', 1, id from rounds";
    database.run(foreign).await;
    let mut next = Vec::new();
    for _ in 0..3 {
        next.push(database.finish("crash", "{}").await);
        // The first poll of each connection reads from an older position.
        database.terminate_server_sessions().await;
        next.push(database.finish("crash", "{}").await);
    }
    assert_eq!(ids(&client.rounds(6).await), next);
    let left = "select count(*)::text from datastream.outbox where xid = '5000000'";
    eventually("the foreign rows to be trimmed", || async {
        (database.text(left).await.as_deref() == Some("0")).then_some(())
    })
    .await;
    let compared = server.metric("datastream_reconciliations_total").await;
    database.terminate_server_sessions().await;
    eventually("another comparison", || async {
        (server.metric("datastream_reconciliations_total").await > compared).then_some(())
    })
    .await;
    server.counts("datastream_rounds_reconciled_total 0").await;
}

#[tokio::test]
async fn a_database_restored_from_a_dump_streams_only_later_rounds() {
    let (_cluster, original) = database_alone().await;
    let old = original.finish_many("crash", 20).await;
    original.run(OF_ANOTHER_CLUSTER).await;
    let database = restored(&original).await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(client.next_round().await.round_id, old[19]);
    server.counts("datastream_reconciliations_total 1").await;
    let left = "select concat((select count(*) from datastream.outbox), \
        (select bool_and(xid < pg_snapshot_xmax(pg_current_snapshot())) from datastream.trimmed))";
    assert_eq!(database.text(left).await.as_deref(), Some("0t"));
    let new = database.finish_many("crash", 5).await;
    assert_eq!(ids(&client.rounds(5).await), new);
    // A resume after a round of the old cluster is a gap; after a new round it works.
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", old[3]))).await;
    assert_eq!(client.close_code().await, Some(4410));
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", new[1]))).await;
    assert_eq!(ids(&client.rounds(3).await), new[2..]);
}

#[tokio::test]
async fn an_older_copy_of_the_database_is_streamed_though_its_transaction_ids_repeat() {
    follows_an_older_copy(5).await;
}

#[tokio::test]
async fn an_older_copy_is_detected_though_it_has_more_transactions_than_the_original() {
    follows_an_older_copy(100).await;
}

/// Replaces the database by a copy that is 31 rounds older, and finishes `again` rounds before the
/// server connects.
async fn follows_an_older_copy(again: usize) {
    let mut cluster = DedicatedCluster::start_with(&[("synchronous_commit", "on")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let kept = database.finish_many("crash", 5).await;
    cluster.stop(Stop::Fast);
    let copy = cluster.keep_copy();
    cluster.start_again();
    server.ready().await;
    let mut streamed = kept;
    streamed.push(eventually("the game to write again", || database.try_finish()).await);
    streamed.extend(database.finish_many("crash", 30).await);
    assert_eq!(ids(&client.rounds(36).await), streamed);
    cluster.stop(Stop::Fast);
    cluster.put_back(&copy);
    server.freeze().await;
    cluster.start_again();
    // The copy reuses ids, but none of these finish times.
    let first = eventually("the game to write again", || database.try_finish()).await;
    let mut new = vec![first];
    new.extend(database.finish_many("crash", again).await);
    server.signal("CONT");
    assert_eq!(ids(&client.rounds(new.len()).await), new);
    server.counts("datastream_rounds_lost_by_database_total 1").await;
}
