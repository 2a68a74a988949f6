//! A server that logs every statement: `log_statement = all`.

use testkit::{DedicatedCluster, SseClient, TestDatabase, TestServer, WsClient, eventually, get};

const LOGS: [(&str, &str); 2] = [("log_statement", "all"), ("log_line_prefix", "'%m [%p] %a|'")];
const POLLS_A_DAY: f64 = 4.0 * 86_400.0;

/// The lines of our sessions, each with the line after it: a statement on several lines goes on with
/// lines that begin with a tab.
fn ours(log: &str) -> Vec<(&str, &str)> {
    let pairs = log.lines().zip(log.lines().skip(1));
    pairs.filter(|(line, _)| line.contains(" datastream ")).collect()
}

#[tokio::test]
async fn every_statement_is_sent_in_one_line_without_comments() {
    let cluster = DedicatedCluster::start_with(&LOGS);
    let database = TestDatabase::on(&cluster.address()).await;
    let before = cluster.log().len();
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let rounds = database.finish_many("crash", 5).await;
    client.rounds_until(rounds[4]).await;
    // In pages, from the database, of an unknown name.
    database.run("insert into rounds (game_id, finished_at) select 1, now() from generate_series(1, 150)").await;
    SseClient::connect(&server.http(&format!("/sse/crash?after={}", rounds[0])))
        .await
        .next_event()
        .await;
    assert_eq!(get(&server.http("/rounds/crash")).await.status, 200);
    assert_eq!(get(&server.http("/sse/nothing")).await.status, 404);
    server.counts("datastream_reconciliations_total 1").await;
    let log = cluster.log()[before..].to_owned();
    let ours = ours(&log);
    assert!(ours.len() > 30, "{}", ours.len());
    for (line, next) in ours {
        assert!(!line.contains("-- "), "{line}");
        assert!(!next.starts_with('\t'), "{line}\n{next}");
    }
}

#[tokio::test]
async fn an_idle_day_writes_less_than_300_mb_to_the_log() {
    let cluster = DedicatedCluster::start_with(&[("log_statement", "all")]);
    let database = TestDatabase::on(&cluster.address()).await;
    let server = TestServer::on(database.url()).start().await;
    // After maintenance, and the second of polls after a start.
    server.counts("datastream_reconciliations_total 1").await;
    let polls = |least: f64| {
        let server = &server;
        eventually(format!("{least} polls"), move || async move {
            let polls = server.metric("datastream_polls_total").await;
            (polls >= least).then_some(polls)
        })
    };
    let first = polls(10.0).await;
    let size = cluster.log().len();
    let last = polls(first + 40.0).await;
    let grown = (cluster.log().len() - size) as f64;
    let a_day = grown / (last - first) * POLLS_A_DAY;
    eprintln!("{:.0} bytes a poll, {:.0} MB a day", grown / (last - first), a_day / 1e6);
    assert!(a_day < 300e6, "{a_day} bytes a day");
}

#[tokio::test]
async fn a_start_looks_for_an_older_round_only_of_the_game_whose_latest_cannot_be_sent() {
    let cluster = DedicatedCluster::start_with(&LOGS);
    let database = TestDatabase::on(&cluster.address()).await;
    for game in ["crash", "slot", "double"] {
        database.finish(game, "{}").await;
    }
    let sent = database.finish("wall-street", "{}").await;
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(2_000));
    database.finish("wall-street", &large).await;
    let before = cluster.log().len();
    let server = TestServer::on(database.url()).env("DATASTREAM_MAX_ROUND", "1KiB").start().await;
    let mut client = WsClient::connect(server.ws("/ws/wall-street")).await;
    assert_eq!(client.next_round().await.round_id, sent);
    let log = cluster.log()[before..].to_owned();
    let of_one_game =
        |line: &&str| line.contains("datastream listen") && line.contains("as newest");
    assert_eq!(log.lines().filter(of_one_game).count(), 1, "{log}");
}
