//! Clients that resume many topics: the number of queries, and the replayed rounds.

use std::time::Instant;

use testkit::{SseClient, TestDatabase, TestServer, WsClient, database_alone, round::ids};

const TOPICS: usize = 50;

#[tokio::test]
async fn clients_that_resume_many_topics_cause_few_queries_per_topic() {
    let (_cluster, database) = database_alone().await;
    let games = format!(
        "insert into games (slug, name, type) select 'g' || i, 'G', 'other' from generate_series(1, {TOPICS}) i"
    );
    database.run(&games).await;
    let rounds = database.finish_many("crash", 20).await;
    let last = rounds[19];
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "2").start().await;
    let before = server.queries().await;
    let begun = Instant::now();
    let back = (0..4 * TOPICS).map(|number| {
        let (topic, seen) = (number % TOPICS + 1, rounds[number / TOPICS]);
        let url = server.http(&format!("/sse?game=crash&game=g{topic}&after={seen}"));
        async move { SseClient::connect(&url).await.messages_until(last).await }
    });
    for (number, replayed) in futures_util::future::join_all(back).await.into_iter().enumerate() {
        assert_eq!(ids(&replayed), rounds[number / TOPICS + 1..]);
    }
    // One page per topic, or two if an older resume point came later, and at most one query for resume
    // points each; a page is kept for 5 s.
    let most = 4.0 * TOPICS as f64 * (1.0 + begun.elapsed().as_secs_f64() / 5.0).floor();
    let made = server.queries().await - before;
    assert!(made <= most, "200 clients of {TOPICS} topics cost {made} queries");
}

#[tokio::test]
async fn a_resume_point_is_a_gap_if_later_rounds_were_deleted_by_retention() {
    let database = TestDatabase::new().await;
    let rounds = database.finish_many("crash", 5).await;
    let trimmed = "insert into datastream.trimmed (xid, at) \
        select xid, at from datastream.outbox order by xid offset 2 limit 1";
    database.run(trimmed).await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={}", rounds[1]))).await;
    assert_eq!(client.close_code().await, Some(4410));
}

#[tokio::test]
async fn a_later_finish_of_the_resume_point_is_replayed_from_the_database() {
    let (_cluster, database) = database_alone().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let seen = database.finish_streamed(&server, "crash", "{}").await;
    let between = database.finish("crash", "{}").await;
    database.run(&format!("update rounds set finished_at = null where id = {seen}")).await;
    database.run(&format!("update rounds set finished_at = now() where id = {seen}")).await;
    let last = database.finish_streamed(&server, "crash", "{}").await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={seen}"))).await;
    let replayed = ids(&client.rounds_until(last).await);
    let after = replayed.iter().position(|id| *id == between).expect("what came between");
    assert!(replayed[after..].contains(&seen), "{replayed:?}");
}

#[tokio::test]
async fn tables_that_were_never_analyzed_answer_a_resume_in_time() {
    let (_cluster, database) = database_alone().await;
    let unanalyzed = "alter table rounds set (autovacuum_enabled = false); \
        alter table datastream.outbox set (autovacuum_enabled = false)";
    database.run(unanalyzed).await;
    let first = database.finish("crash", "{}").await;
    let many = "insert into rounds (game_id, finished_at) \
        select g.id, now() from games g, generate_series(1, 9999) where slug = 'crash'";
    database.run(many).await;
    let server = TestServer::on(database.url()).env("DATASTREAM_HISTORY", "1").start().await;
    let mut client = WsClient::connect(server.ws(&format!("/ws/crash?after={first}"))).await;
    let later: Vec<i64> = (first + 1..first + 10_000).collect();
    assert_eq!(ids(&client.rounds(9_999).await), later);
}
