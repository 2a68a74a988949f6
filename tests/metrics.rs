//! The metrics of latency and of the database, as docs/operations.md describes them.

use std::collections::BTreeSet;

use testkit::{TestServer, WsClient, database_alone, eventually, get, serving};

/// Finishes a round now that the trigger does not record.
const SKIPPED: &str = "set datastream.skip = 'on'; insert into rounds (game_id, finished_at) \
    select id, now() from games where slug = 'crash'; reset datastream.skip";

#[tokio::test]
async fn latency_is_measured_until_decoding_and_until_the_socket_write() {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.finish_many("crash", 3).await;
    client.rounds(3).await;
    server.counts("datastream_commit_to_decode_seconds_count 3").await;
    // Rounds of one batch are written together and measured by the first.
    let written = server.metric("datastream_commit_to_write_seconds_count").await;
    assert!((1.0..=3.0).contains(&written), "{written}");
    for name in ["decode", "write"] {
        let sum = server.metric(&format!("datastream_commit_to_{name}_seconds_sum")).await;
        assert!(sum < 10.0, "{name}: {sum} s");
    }
}

#[tokio::test]
async fn latency_of_a_polled_round_is_measured_from_its_outbox_row() {
    let (database, server) = serving().await;
    server.counts("datastream_reconciliations_total 1").await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let late = "insert into datastream.outbox (attachment, round_id, at) \
        select 1, max(id), now() - interval '100 s' from rounds";
    database.run(&format!("begin; {SKIPPED}; {late}; commit")).await;
    client.next_round().await;
    server.counts("datastream_commit_to_write_seconds_count 1").await;
    for name in ["decode", "write"] {
        let sum = server.metric(&format!("datastream_commit_to_{name}_seconds_sum")).await;
        assert!((100.0..120.0).contains(&sum), "{name}: {sum} s");
    }
}

#[tokio::test]
async fn the_outbox_and_the_notification_queue_are_measured() {
    let (_cluster, database) = database_alone().await;
    database.finish_many("crash", 10).await;
    database
        .run(
            "insert into datastream.outbox (xid, attachment, round_id, at) \
             values ('3', 1, 0, now() - interval '1 hour'); analyze datastream.outbox",
        )
        .await;
    // A listener that is idle in a transaction reads nothing, so the queue keeps all notifications.
    let mut idle = database.pool.acquire().await.expect("a connection");
    for statement in ["listen other", "begin", "select 1"] {
        sqlx::raw_sql(statement).execute(&mut *idle).await.expect(statement);
    }
    database
        .run("select pg_notify('other', g || repeat('x', 7000)) from generate_series(1, 100) g")
        .await;
    let server = TestServer::on(database.url()).start().await;
    server.counts("datastream_outbox_rows 11").await;
    let oldest = eventually("the oldest to be looked at", || async {
        let oldest = server.metric("datastream_outbox_oldest_age_seconds").await;
        (oldest > 0.0).then_some(oldest)
    })
    .await;
    assert!((3600.0..3700.0).contains(&oldest), "{oldest} s");
    let usage = eventually("the queue to be looked at", || async {
        let usage = server.metric("datastream_notify_queue_usage").await;
        (usage > 0.0).then_some(usage)
    })
    .await;
    assert!(usage < 0.1, "{usage}");
}

/// The names in the tables of the page, without labels.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `datastream_"));
    rows.filter_map(|row| Some(format!("datastream_{}", row.split(['`', '{', ' ']).next()?)))
        .collect()
}

#[tokio::test]
async fn every_metric_that_is_served_is_documented() {
    let (_database, server) = serving().await;
    let text = get(&server.http("/metrics")).await.body;
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE datastream_"));
    let served: BTreeSet<_> = kinds
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.trim_end_matches("_total"), kind))
        .map(|(name, kind)| match kind {
            "counter" => format!("datastream_{name}_total"),
            _ => format!("datastream_{name}"),
        })
        .collect();
    assert!(served.len() > 20, "{served:?}");
    let undocumented: Vec<_> = served.difference(&documented()).cloned().collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

#[tokio::test]
async fn the_expiry_of_the_certificate_is_measured() {
    let database = testkit::TestDatabase::new().await;
    let server = TestServer::on(database.url()).web_transport().start().await;
    let name = "datastream_certificate_expiry_timestamp_seconds";
    let metric = |source| format!("{name}{{listener=\"webtransport\",source=\"{source}\"}}");
    let expiry = server.metric(&metric("self_signed")).await;
    let certificate = get(&server.http("/wt/certificate")).await.json();
    let not_after = certificate["not_after"].as_str().expect("a moment");
    let not_after = chrono::DateTime::parse_from_rfc3339(not_after).expect("RFC 3339");
    assert_eq!(expiry, not_after.timestamp() as f64);
    assert_eq!(server.metric(&metric("file")).await, 0.0);
}
