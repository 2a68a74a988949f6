//! Ids with characters that have a meaning somewhere: in URLs, in headers, in JSON, in SQL.

use std::process::Stdio;

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, WtClient,
    binary::datastream,
    game::{attach, dice},
    get,
    round::ids,
    server::Builder,
    within,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Each is a round of its own transaction, in this order.
fn odd_ids() -> Vec<String> {
    let odd = [
        "a b",
        " ",
        "/",
        "..",
        "a/b:c",
        ":",
        "100%",
        "%20",
        "%",
        "\"quo'ted\\\"",
        "'; drop table",
        "ключ é",
        "\u{1f3b2}",
        "\u{2028}",
        "+&=?#",
        "<>",
        "12",
        "-3",
        "null",
        "{\"a\":1}",
    ];
    let longest = ["x".repeat(200), "é".repeat(100)];
    odd.iter().map(|id| (*id).to_owned()).chain(longest).collect()
}

fn encoded(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn database() -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.run("create table plays (key text primary key, at timestamptz, extras jsonb)").await;
    attach(&database, &dice("plays", &["--id", "key", "--index"])).await;
    database
}

async fn finish_all(database: &TestDatabase) {
    for id in odd_ids() {
        let insert = "insert into plays values ($1, clock_timestamp())";
        sqlx::query(insert).bind(id).execute(&database.pool).await.expect("an insert");
    }
}

fn on(database: &TestDatabase) -> Builder {
    TestServer::on(database.url()).web_transport()
}

/// A server that has streamed a round of each id.
async fn all_streamed() -> (TestDatabase, TestServer) {
    let database = database().await;
    let server = on(&database).start().await;
    let mut socket = WsClient::connect(server.ws("/ws/dice")).await;
    finish_all(&database).await;
    socket.rounds_until(odd_ids().pop().expect("an id")).await;
    (database, server)
}

/// Resumes after each id on each transport. A restarted server may repeat the named round.
async fn assert_resumes(server: &TestServer) {
    let all = odd_ids();
    let last = all.last().expect("an id").clone();
    for (index, id) in all.iter().enumerate().take(all.len() - 1) {
        let later = &all[index + 1..];
        let is_later = |got: Vec<String>, by: &str| {
            assert!(got.ends_with(later) && got.len() <= all.len(), "{by} after {id:?}: {got:?}");
        };
        let after = encoded(id);
        let mut socket = WsClient::connect(server.ws(&format!("/ws/dice?after={after}"))).await;
        is_later(ids(&socket.rounds_until(last.clone()).await), "WebSocket");
        let events = server.http(&format!("/sse?after={after}"));
        let mut events = SseClient::connect(&events).await;
        is_later(ids(&events.messages_until(last.clone()).await), "SSE");
        let mut events = SseClient::resume(&server.http("/sse/dice"), &after).await;
        is_later(ids(&events.messages_until(last.clone()).await), "Last-Event-ID");
    }
}

#[tokio::test]
async fn odd_ids_arrive_unchanged_and_resume_on_websocket_and_sse() {
    let database = database().await;
    let server = on(&database).start().await;
    let mut socket = WsClient::connect(server.ws("/ws/dice")).await;
    let mut events = SseClient::connect(&server.http("/sse/dice")).await;
    finish_all(&database).await;
    let last = odd_ids().pop().expect("an id");
    assert_eq!(ids(&socket.rounds_until(last.clone()).await), odd_ids());
    // Asserts too that the ids of events are percent-encoded.
    let mut got = Vec::new();
    while got.last() != Some(&last) {
        got.push(events.next_event_of::<String>().await.1.round_id);
    }
    assert_eq!(got, odd_ids());
    assert_resumes(&server).await;
}

#[tokio::test]
async fn odd_ids_resume_after_a_restart_from_the_database() {
    let (database, server) = all_streamed().await;
    server.kill().await;
    let server = on(&database).env("DATASTREAM_HISTORY", "1").start().await;
    assert_resumes(&server).await;
}

#[tokio::test]
async fn odd_ids_resume_on_another_server() {
    let (database, one) = all_streamed().await;
    let other = on(&database).start().await;
    one.counts("datastream_other_nodes 1").await;
    let (all, newest) = (odd_ids(), "the newest");
    let mut steady = WsClient::connect(other.ws("/ws/dice")).await;
    let insert = "insert into plays values ($1, clock_timestamp())";
    sqlx::query(insert).bind(newest).execute(&database.pool).await.expect("an insert");
    steady.rounds_until(newest.to_owned()).await;
    for (index, id) in all.iter().enumerate() {
        let mut client =
            WsClient::connect(other.ws(&format!("/ws/dice?after={}", encoded(id)))).await;
        let mut got = ids(&client.rounds_until(newest.to_owned()).await);
        // With two servers a resume may repeat rounds. It leaves out none.
        got.retain(|id| all[index + 1..].contains(id));
        assert_eq!(got, all[index + 1..], "after {id:?}");
    }
}

#[tokio::test]
async fn rounds_with_odd_ids_that_no_trigger_recorded_are_found() {
    let database = database().await;
    database.run("alter table plays disable trigger user").await;
    finish_all(&database).await;
    database.run("alter table plays enable trigger user").await;
    let server = on(&database).start().await;
    server.counts(&format!("datastream_rounds_reconciled_total {}", odd_ids().len())).await;
    // They are recorded in one transaction, so they come in the order of ids.
    let mut sorted = odd_ids();
    sorted.sort();
    let after = encoded(&sorted[0]);
    let mut client = WsClient::connect(server.ws(&format!("/ws/dice?after={after}"))).await;
    let last = sorted.last().expect("an id").clone();
    let mut got: Vec<String> = ids(&client.rounds_until(last).await);
    got.retain(|id| *id != sorted[0]);
    assert_eq!(got, sorted[1..]);
}

#[tokio::test]
async fn odd_ids_resume_on_webtransport() {
    let (_database, server) = all_streamed().await;
    let all = odd_ids();
    for (index, id) in all.iter().enumerate().take(all.len() - 1).step_by(4) {
        let client = WtClient::connect(&server, &format!("/wt/dice?after={}", encoded(id))).await;
        let replay = client.next_stream().await;
        let got: Vec<serde_json::Value> =
            replay.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let got: Vec<&str> =
            got.iter().map(|round| round["round_id"].as_str().expect("a string")).collect();
        assert_eq!(got, all[index + 1..], "after {id:?}");
    }
}

#[tokio::test]
async fn lists_take_odd_ids_as_before_and_link_past_them() {
    let database = database().await;
    finish_all(&database).await;
    let server = on(&database).start().await;
    let mut newest_first = odd_ids();
    newest_first.reverse();
    let read = |body: String| -> Vec<String> {
        let page: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a list");
        page.iter().map(|round| round["round_id"].as_str().expect("a string").to_owned()).collect()
    };
    let (mut walked, mut next) = (Vec::new(), Some("/rounds/dice?limit=3".to_owned()));
    while let Some(path) = next {
        let page = get(&server.http(&path)).await;
        let link = page.header("link").strip_prefix('<').and_then(|link| link.split_once('>'));
        next = link.map(|(path, _)| path.to_owned());
        walked.extend(read(page.body));
    }
    assert_eq!(walked, newest_first);
    for (index, id) in newest_first.iter().enumerate() {
        let page = get(&server.http(&format!("/rounds?before={}", encoded(id)))).await;
        assert_eq!(read(page.body), newest_first[index + 1..], "before {id:?}");
    }
    get(&server.http("/rounds?before=13")).await.assert_problem(404);
}

#[tokio::test]
async fn tail_resumes_after_an_odd_id() {
    let (_database, server) = all_streamed().await;
    let all = odd_ids();
    let url = server.http("");
    for index in [0, 6, 9, 13] {
        let after = format!("--after={}", all[index]);
        let mut run = datastream(&["tail", "dice", "--json", "--url", &url, &after]);
        let spawned = run.command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut tail = spawned.expect("the binary");
        let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
        let line = within("a line of tail", lines.next_line()).await.expect("a read");
        let line = line.expect("a line");
        let round: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(round["round_id"], all[index + 1].as_str(), "after {:?}", all[index]);
    }
}
