//! The statements of docs/voids-and-corrections.md.

use testkit::{TestDatabase, TestServer, WsClient, get, serving};

const FINISH: &str = "insert into rounds (id, game_id, finished_at, extras) \
    select 512, id, '2026-01-17 00:45:42Z', '{\"n\": 1}' from games where slug = 'crash'";

/// A server, and a client that got round 512.
async fn with_a_finished_round() -> (TestDatabase, TestServer, WsClient) {
    let (database, server) = serving().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run(FINISH).await;
    assert!(client.next_text().await.contains(r#""extras":"{\"n\": 1}""#));
    (database, server, client)
}

async fn listed(server: &TestServer) -> String {
    get(&server.http("/rounds/crash")).await.body
}

/// The next round that the client gets is another one: the change sent nothing.
async fn nothing_was_sent(database: &TestDatabase, client: &mut WsClient) {
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
}

#[tokio::test]
async fn a_void_sends_nothing_and_leaves_the_lists_but_not_the_memory() {
    let (database, server, mut client) = with_a_finished_round().await;
    database.run("update rounds set finished_at = null").await;
    assert_eq!(listed(&server).await, "[]");
    let seed = WsClient::connect(server.ws("/ws/crash")).await.next_text().await;
    assert!(seed.starts_with("{\"round_id\":512,"), "the seed is as it was sent: {seed}");
    nothing_was_sent(&database, &mut client).await;
}

#[tokio::test]
async fn a_round_that_is_finished_again_is_sent_again_with_a_later_finished_at() {
    let (database, server, mut client) = with_a_finished_round().await;
    database.run("update rounds set finished_at = null where id = 512").await;
    let again = "update rounds set finished_at = '2026-01-17 00:50:00Z', extras = '{\"n\": 2}' where id = 512";
    database.run(again).await;
    let round = client.next_text().await;
    let wanted = r#""finished_at":"2026-01-17T00:50:00Z","extras":"{\"n\": 2}""#;
    assert!(round.starts_with("{\"round_id\":512,") && round.contains(wanted), "{round}");
    assert!(listed(&server).await.contains(wanted));
    nothing_was_sent(&database, &mut client).await;
}

#[tokio::test]
async fn a_correction_in_place_sends_nothing_and_is_in_the_lists() {
    let (database, server, mut client) = with_a_finished_round().await;
    database.run("update rounds set extras = '{\"n\": 2}', finished_at = finished_at + '1s'").await;
    let page = listed(&server).await;
    let wanted = r#""finished_at":"2026-01-17T00:45:43Z","extras":"{\"n\": 2}""#;
    assert!(page.contains(wanted), "{page}");
    nothing_was_sent(&database, &mut client).await;
}

#[tokio::test]
async fn a_deleted_round_leaves_the_lists_and_is_sent_again_if_it_is_inserted_again() {
    let (database, server, mut client) = with_a_finished_round().await;
    database.run("delete from rounds").await;
    assert_eq!(listed(&server).await, "[]");
    database.run(&FINISH.replace("00:45:42Z", "00:50:00Z")).await;
    let round = client.next_text().await;
    assert!(round.starts_with("{\"round_id\":512,") && round.contains("00:50:00Z"), "{round}");
}

#[tokio::test]
async fn a_finish_that_is_undone_and_done_again_in_one_transaction_is_sent_once_or_twice() {
    let (database, _server, mut client) = with_a_finished_round().await;
    let again = "update rounds set finished_at = now(), extras = '{\"n\": 2}'";
    database.run(&format!("begin; update rounds set finished_at = null; {again}; commit")).await;
    let next = database.finish("crash", "{}").await;
    let mut ids = vec![client.next_round().await.round_id];
    while ids.last() != Some(&next) {
        ids.push(client.next_round().await.round_id);
    }
    assert!(ids == [512, next] || ids == [512, 512, next], "{ids:?}");
}

#[tokio::test]
async fn after_a_restart_the_seed_is_read_from_the_table() {
    for (change, seed) in [
        ("update rounds set finished_at = null where id = 512", 511),
        ("delete from rounds where id = 512", 511),
        ("update rounds set extras = '{\"n\": 2}' where id = 512", 512),
    ] {
        let (database, server, _client) = with_a_finished_round().await;
        let older = FINISH.replace("512", "511").replace("00:45:42Z", "00:40:00Z");
        database.run(&format!("{older}; {change}")).await;
        drop(server);
        let server = TestServer::on(database.url()).start().await;
        let text = WsClient::connect(server.ws("/ws/crash")).await.next_text().await;
        assert!(text.starts_with(&format!("{{\"round_id\":{seed},")), "{change}: {text}");
        assert_eq!(text.contains(r#"{\"n\": 2}"#), seed == 512, "{change}: {text}");
    }
}

#[tokio::test]
async fn a_finish_with_datastream_skip_is_not_sent() {
    let (database, _server, mut client) = with_a_finished_round().await;
    database.run("update rounds set finished_at = null").await;
    database
        .run("begin; set local datastream.skip = 'on'; update rounds set finished_at = now(); commit")
        .await;
    nothing_was_sent(&database, &mut client).await;
}
