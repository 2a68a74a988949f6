//! Tables of many shapes: each is attached, streamed, resumed, listed and detached without a trace.

mod corpus;
mod suggested;
mod unusual;

use corpus::{SHAPES, Shape};
use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{attach, dump, run},
    get,
};
use unusual::UNUSUAL;

/// The table of the rounds: the last one that the schema makes.
fn table(shape: &Shape) -> String {
    let made = shape.schema.split("create table ").filter(|it| !it.contains("partition of"));
    let name = made.last().expect("a table").split(" (").next().expect("a name");
    name.to_owned()
}

fn options(shape: &Shape) -> Vec<String> {
    let mut options = vec!["--table".to_owned(), table(shape), "--index".to_owned()];
    for line in shape.attach.lines() {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        options.push(option.to_owned());
        options.extend((!value.is_empty()).then(|| value.to_owned()));
    }
    options
}

/// An id in a URL.
fn in_query(id: &str) -> String {
    let id: serde_json::Value = serde_json::from_str(id).expect("JSON");
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn id_of(text: &str) -> String {
    let round: serde_json::Value = serde_json::from_str(text).expect("JSON");
    round["round_id"].to_string()
}

async fn is_streamed(database: &TestDatabase, server: &TestServer, shape: &Shape) {
    let mut client = WsClient::connect(server.ws("/ws")).await;
    database.run(shape.writes[0]).await;
    let first = client.next_text().await;
    assert!(first.starts_with(&format!("{{\"round_id\":{},", shape.ids[0])), "{first}");
    assert!(first.contains(shape.has) && first.contains(shape.slug), "{first}");
    database.run(shape.writes[1]).await;
    let second = client.next_text().await;
    assert_eq!(id_of(&second), shape.ids[1], "{}", shape.name);
}

async fn is_resumed_and_listed(server: &TestServer, shape: &Shape) {
    let [first, second] = shape.ids;
    let after = server.ws(&format!("/ws/{}?after={}", shape.slug, in_query(first)));
    let mut client = WsClient::connect(after).await;
    let mut text = client.next_text().await;
    // Each was committed by itself, but a restart may repeat the named one.
    if id_of(&text) == first {
        text = client.next_text().await;
    }
    assert_eq!(id_of(&text), second, "{}", shape.name);
    let listed = get(&server.http(&format!("/rounds/{}", shape.slug))).await;
    let page: Vec<serde_json::Value> = serde_json::from_str(&listed.body).expect("a list");
    let mut ids: Vec<String> = page.iter().map(|round| round["round_id"].to_string()).collect();
    ids.sort();
    let mut expected = [first.to_owned(), second.to_owned()];
    expected.sort();
    assert_eq!(ids, expected, "{}", shape.name);
    // Before the newest round comes the other one.
    let newest = &page[0]["round_id"].to_string();
    let before = format!("/rounds/{}?before={}", shape.slug, in_query(newest));
    let page = get(&server.http(&before)).await.body;
    let older = if *newest == first { second } else { first };
    assert!(page.starts_with(&format!("[{{\"round_id\":{older},")), "{}: {page}", shape.name);
}

async fn is_attached_streamed_resumed_listed_and_detached(shape: &Shape) {
    let database = TestDatabase::empty().await;
    database.run(shape.schema).await;
    let before = dump(&database).await;
    let options = options(shape);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    attach(&database, &options).await;
    let again = attach(&database, &options).await.stdout;
    assert!(again.contains("No changes needed"), "{}: {again}", shape.name);
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!(doctor.code, Some(0), "{}: {}", shape.name, doctor.stdout);
    let server = TestServer::on(database.url()).start().await;
    is_streamed(&database, &server, shape).await;
    is_resumed_and_listed(&server, shape).await;
    drop(server);
    let server = TestServer::on(database.url()).start().await;
    is_resumed_and_listed(&server, shape).await;
    server.counts("datastream_reconciliations_total 1").await;
    server.counts("datastream_rounds_reconciled_total 0").await;
    drop(server);
    let detached = run(&database, "detach", &["--table", &table(shape)]).await;
    assert_eq!(detached.code, Some(0), "{}: {}", shape.name, detached.stderr);
    database.run("drop schema datastream cascade").await;
    assert_eq!(dump(&database).await, before, "{}", shape.name);
}

/// The shapes in four tests, so that they run side by side.
async fn every_fourth(from: usize) {
    for shape in SHAPES.iter().chain(&UNUSUAL).skip(from).step_by(4) {
        is_attached_streamed_resumed_listed_and_detached(shape).await;
    }
}

#[tokio::test]
async fn tables_of_all_shapes_are_attached_streamed_resumed_listed_and_detached_1_of_4() {
    every_fourth(0).await;
}

#[tokio::test]
async fn tables_of_all_shapes_are_attached_streamed_resumed_listed_and_detached_2_of_4() {
    every_fourth(1).await;
}

#[tokio::test]
async fn tables_of_all_shapes_are_attached_streamed_resumed_listed_and_detached_3_of_4() {
    every_fourth(2).await;
}

#[tokio::test]
async fn tables_of_all_shapes_are_attached_streamed_resumed_listed_and_detached_4_of_4() {
    every_fourth(3).await;
}
