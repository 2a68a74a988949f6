//! More missed rounds than one page of a catch-up: it reads pages of 10,000 rows.

use testkit::{FaultProxy, TestDatabase, TestServer, WsClient, round::ids};

const BULK: &str = "insert into rounds (game_id, finished_at) \
    select g.id, now() from games g, generate_series(1, 12000) where slug = 'crash'";
/// Each in its own transaction.
const SINGLE: &str = "do $$ begin for i in 1..10500 loop \
    insert into rounds (game_id, finished_at) select id, now() from games where slug = 'crash'; \
    commit; end loop; end $$";

struct Scene {
    database: TestDatabase,
    proxy: FaultProxy,
    server: TestServer,
    client: WsClient,
}

impl Scene {
    /// A subscriber to a hub whose ring buffer holds all rounds, so only the capture can lose some.
    async fn set() -> Self {
        let database = TestDatabase::new().await;
        let proxy = FaultProxy::start(database.address.tcp_port).await;
        let server = TestServer::on(database.url_through(proxy.port))
            .env("DATASTREAM_HISTORY", "100000")
            .start()
            .await;
        let client = WsClient::connect(server.ws("/ws/crash")).await;
        Self { database, proxy, server, client }
    }

    /// Asserts that every round of the table arrives in order, and the next one as well.
    async fn all_arrive_in_order(&mut self, count: usize) {
        let last = i64::try_from(count).expect("small");
        assert_eq!(ids(&self.client.rounds_until(last).await), (1..=last).collect::<Vec<_>>());
        let next = self.database.finish("crash", "{}").await;
        assert_eq!(self.client.next_round().await.round_id, next);
    }
}

#[tokio::test]
async fn rounds_of_a_long_outage_are_streamed_once_and_in_order() {
    let mut scene = Scene::set().await;
    scene.proxy.refuse();
    scene.server.unready().await;
    for statement in [SINGLE, BULK, SINGLE] {
        scene.database.run(statement).await;
    }
    scene.proxy.resume();
    scene.all_arrive_in_order(33_000).await;
    scene.server.counts("datastream_rounds_captured_total{source=\"catch_up\"} 33000").await;
}

#[tokio::test]
async fn a_catch_up_continues_at_its_position_after_a_broken_connection() {
    let mut scene = Scene::set().await;
    scene.proxy.refuse();
    scene.server.unready().await;
    for statement in [SINGLE, SINGLE, SINGLE, BULK] {
        scene.database.run(statement).await;
    }
    scene.proxy.resume();
    let mut seen = ids(&scene.client.rounds_until(11_000).await);
    scene.proxy.flap(3).await;
    seen.extend(ids(&scene.client.rounds_until(43_500).await));
    assert_eq!(seen, (1..=43_500).collect::<Vec<_>>());
    scene.server.counts("datastream_rounds_captured_total{source=\"catch_up\"} 43500").await;
}

#[tokio::test]
async fn a_transaction_larger_than_a_page_is_streamed_live() {
    let mut scene = Scene::set().await;
    scene.database.run(&BULK.replace("12000", "25000")).await;
    scene.server.counts("datastream_rounds_captured_total{source=\"poll\"} 25000").await;
    scene.all_arrive_in_order(25_000).await;
    scene.server.counts("datastream_notifications_unknown_total 0").await;
}

#[tokio::test]
async fn rounds_deleted_by_retention_during_a_catch_up_are_recovered() {
    let mut scene = Scene::set().await;
    scene.proxy.refuse();
    scene.server.unready().await;
    for _ in 0..5 {
        scene.database.run(BULK).await;
    }
    scene.proxy.resume();
    let mut seen = ids(&scene.client.rounds_until(1).await);
    scene.proxy.stall();
    scene.database.run("select datastream.trim(interval '0', 100000)").await;
    scene.proxy.resume();
    seen.extend(ids(&scene.client.rounds_until(60_000).await));
    assert_eq!(seen, (1..=60_000).collect::<Vec<_>>());
    let next = scene.database.finish("crash", "{}").await;
    assert_eq!(scene.client.next_round().await.round_id, next);
    let told = |line: &String| line.contains("deleted by retention");
    assert!(scene.server.log().iter().any(told), "the last page had been read before");
}

#[tokio::test]
async fn a_resume_during_a_stalled_catch_up_is_no_gap() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.address.tcp_port).await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_LISTEN_URL", database.url_through(proxy.port))
        .env("DATASTREAM_HISTORY", "100")
        .env("DATASTREAM_RESUME_LIMIT", "100000")
        .start()
        .await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    let named = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, named);
    proxy.refuse();
    server.unready().await;
    for _ in 0..3 {
        database.run(BULK).await;
    }
    proxy.resume();
    client.next_round().await;
    proxy.stall();
    let resume = server.ws(&format!("/ws/crash?after={named}"));
    assert_eq!(WsClient::try_connect(&resume, &[]).await.err(), Some(503));
    proxy.resume();
    server.ready().await;
    let mut client = WsClient::connect(resume).await;
    let later: Vec<i64> = (named + 1..=named + 36_000).collect();
    assert_eq!(ids(&client.rounds_until(named + 36_000).await), later);
}
