//! Subscribers that read too slowly or not at all. Other subscribers must not be affected.

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, eventually, get, raw_http, round::ids,
};

/// 6 MB: more than both socket buffers and a send queue can hold.
const MANY: usize = 300;

async fn server(database: &TestDatabase, heartbeat: &str, history: &str) -> TestServer {
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", heartbeat);
    server.env("DATASTREAM_HISTORY", history).start().await
}

/// Finishes rounds of 20 KB one by one; returns their ids.
async fn finish_large(database: &TestDatabase) -> Vec<i64> {
    let mut ids = Vec::with_capacity(MANY);
    for _ in 0..MANY {
        ids.push(database.finish("crash", &large()).await);
    }
    ids
}

fn large() -> String {
    format!("{{\"a\": \"{}\"}}", "x".repeat(20_000))
}

#[track_caller]
fn metric(server: &TestServer, line: &str) -> impl Future<Output = ()> {
    let (url, line) = (server.http("/metrics"), format!("\ndatastream_{line}\n"));
    eventually(line.clone(), move || {
        let (url, line) = (url.clone(), line.clone());
        async move { get(&url).await.body.contains(&line).then_some(()) }
    })
}

#[tokio::test]
async fn a_lagging_subscriber_is_refilled_without_loss_or_repeat() {
    let database = TestDatabase::new().await;
    let server = server(&database, "60s", "1024").await;
    let mut slow = WsClient::connect(server.ws("/ws/crash")).await;
    let mut slow_events = SseClient::connect(&server.http("/sse/crash")).await;
    let mut fast = WsClient::connect(server.ws("/ws/crash")).await;
    let (rounds, read) = tokio::join!(finish_large(&database), fast.rounds(MANY));
    assert_eq!(ids(&read), rounds);
    assert_eq!(ids(&slow.rounds(MANY).await), rounds);
    assert_eq!(ids(&slow_events.messages_until(rounds[MANY - 1]).await), rounds);
    let metrics = get(&server.http("/metrics")).await.body;
    assert!(!metrics.contains("\ndatastream_subscriber_refills_total 0\n"), "{metrics}");
    let next = database.finish("crash", "{}").await;
    assert_eq!(slow.next_round().await.round_id, next);
}

#[tokio::test]
async fn a_transaction_larger_than_the_ring_buffer_reaches_subscribers_that_read() {
    let database = TestDatabase::new().await;
    let server = server(&database, "60s", "16").await;
    let mut socket = WsClient::connect(server.ws("/ws/crash")).await;
    let mut events = SseClient::connect(&server.http("/sse/crash")).await;
    let insert = "insert into rounds (id, game_id, finished_at) \
        select 100000 + n, g.id, now() from games g, generate_series(1, 6000) n where slug = 'crash'";
    let rounds: Vec<i64> = (100_001..=106_000).collect();
    let (messages, events, ()) = tokio::join!(
        socket.rounds_until(106_000),
        events.messages_until(106_000),
        database.run(insert)
    );
    assert_eq!(ids(&messages), rounds);
    assert_eq!(ids(&events), rounds);
}

#[tokio::test]
async fn a_subscriber_behind_the_ring_buffer_is_closed_with_1013() {
    let database = TestDatabase::new().await;
    let server = server(&database, "60s", "8").await;
    let mut slow = WsClient::connect(server.ws("/ws/crash")).await;
    let mut slow_events = SseClient::connect(&server.http("/sse/crash")).await;
    let mut fast = WsClient::connect(server.ws("/ws/crash")).await;
    // With such a small ring buffer a burst may outrun any subscriber: the writer waits for the fast one.
    for _ in 0..MANY {
        let round = database.finish("crash", &large()).await;
        assert_eq!(fast.next_round().await.round_id, round);
    }
    assert_eq!(slow.close_code().await, Some(1013));
    assert!(slow_events.ends_cleanly().await);
    metric(&server, r#"sessions_closed_total{transport="websocket",reason="too_slow"} 1"#).await;
    metric(&server, r#"sessions_closed_total{transport="sse",reason="too_slow"} 1"#).await;
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_is_closed_without_effect_on_others() {
    let database = TestDatabase::new().await;
    // Their sockets are full long before the third ping, which would be another reason to close.
    let server = server(&database, "5s", "1024").await;
    let _events = raw_http(server.addr, "GET /sse/crash HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _plain = raw_http(server.addr, "GET /sse/crash HTTP/1.0\r\n\r\n").await;
    let _socket = WsClient::connect(server.ws("/ws/crash")).await;
    let mut fast = WsClient::connect(server.ws("/ws/crash")).await;
    let (rounds, read) = tokio::join!(finish_large(&database), fast.rounds(MANY));
    assert_eq!(ids(&read), rounds);
    let keeps_up = async {
        loop {
            fast.ping().await;
        }
    };
    let let_go = async {
        metric(&server, r#"sessions_closed_total{transport="sse",reason="too_slow"} 2"#).await;
        metric(&server, r#"sessions_closed_total{transport="websocket",reason="too_slow"} 1"#)
            .await;
        metric(&server, r#"subscribers{transport="websocket"} 1"#).await;
    };
    tokio::select! {
        () = keeps_up => {}
        () = let_go => {}
    }
}
