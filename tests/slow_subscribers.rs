//! Subscribers that read too slowly, or not at all. Others must not feel it.

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, eventually, get, raw_http, round::ids,
};

/// More than a socket, its peer's and a queue take: 6 MB.
const MANY: usize = 300;

async fn server(database: &TestDatabase, heartbeat: &str, history: &str) -> TestServer {
    let server = TestServer::on(database.url()).env("DATASTREAM_HEARTBEAT", heartbeat);
    server.env("DATASTREAM_HISTORY", history).start().await
}

/// Finishes rounds of 20 KB, one after the other; returns their ids.
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
async fn who_falls_behind_is_refilled_from_memory_without_loss_or_repeat() {
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
async fn a_transaction_of_more_rounds_than_memory_holds_reaches_who_reads_them() {
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
async fn who_falls_further_behind_than_memory_reaches_is_told_1013() {
    let database = TestDatabase::new().await;
    let server = server(&database, "60s", "8").await;
    let mut slow = WsClient::connect(server.ws("/ws/crash")).await;
    let mut slow_events = SseClient::connect(&server.http("/sse/crash")).await;
    let mut fast = WsClient::connect(server.ws("/ws/crash")).await;
    // With so short a memory, a burst may be too much for anybody: it has to wait for the fast.
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
async fn who_reads_nothing_is_let_go_on_every_transport_and_nobody_else_feels_it() {
    let database = TestDatabase::new().await;
    // Their sockets are full long before the third ping, which would be another reason.
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
