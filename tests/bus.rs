//! Beyond one machine: captures append to a stream on NATS, and edges without a database serve it.

use testkit::{
    SseClient, TestDatabase, TestServer, WsClient, eventually, get,
    nats::{Bus, Nats},
    round::ids,
};

/// A database, a NATS with its stream, a capture node that leads, and an edge.
pub(crate) struct Cluster {
    pub(crate) database: TestDatabase,
    pub(crate) bus: Bus,
    pub(crate) capture: TestServer,
    pub(crate) edge: TestServer,
    pub(crate) nats: Nats,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let (database, nats) = (TestDatabase::new().await, Nats::start().await);
        let bus = Bus::create(&nats.url(), &database.url()).await;
        let capture = leader(&bus).await;
        let edge = bus.edge().start().await;
        Self { database, bus, capture, edge, nats }
    }
}

/// A capture node that leads.
pub(crate) async fn leader(bus: &Bus) -> TestServer {
    let capture = bus.capture().start_unready().await;
    capture.counts("datastream_bus_leading 1").await;
    capture
}

/// A capture node that follows the leader.
async fn standby(bus: &Bus) -> TestServer {
    let capture = bus.capture().start().await;
    assert!(get(&capture.http("/readyz")).await.body.contains("standing_by"));
    capture
}

#[tokio::test]
async fn a_committed_round_reaches_the_clients_of_every_edge_in_one_order() {
    let cluster = Cluster::start().await;
    let second = cluster.bus.edge().start().await;
    let mut clients = Vec::new();
    for edge in [&cluster.edge, &second] {
        clients.push(WsClient::connect(edge.ws("/ws/crash")).await);
    }
    let rounds = cluster.database.finish_many("crash", 20).await;
    let mut orders = Vec::new();
    for client in &mut clients {
        orders.push(ids(&client.rounds(20).await));
    }
    assert_eq!(orders[0], orders[1]);
    orders[0].sort_unstable();
    assert_eq!(orders[0], rounds);
}

#[tokio::test]
async fn a_new_edge_seeds_and_resumes_exactly_without_a_database() {
    let cluster = Cluster::start().await;
    let rounds = cluster.database.finish_many_streamed(&cluster.edge, "crash", 10).await;
    let second = cluster.bus.edge().start().await;
    let mut seeded = SseClient::connect(&second.http("/sse/crash")).await;
    assert_eq!(seeded.next_event().await.1.round_id, rounds[9]);
    let mut resumed = WsClient::connect(second.ws(&format!("/ws/crash?after={}", rounds[3]))).await;
    assert_eq!(ids(&resumed.rounds(6).await), rounds[4..]);
    let live = cluster.database.finish("crash", "{}").await;
    assert_eq!(resumed.next_round().await.round_id, live);
    let ready = get(&second.http("/readyz")).await;
    assert!(ready.body.contains(r#""role":"edge""#), "{}", ready.body);
    assert!(ready.body.contains(r#""database":"connected""#), "{}", ready.body);
}

#[tokio::test]
async fn the_live_page_gets_the_name_of_its_edge_and_none_without_a_bus() {
    let cluster = Cluster::start().await;
    let named = cluster.bus.edge().env("DATASTREAM_NODE", "edge-2").start().await;
    let page = get(&named.http("/page/transports.js")).await;
    assert!(page.body.contains("export const NODE = 'edge-2';"), "{}", page.body);
    let alone = TestServer::on(cluster.database.url()).env("DATASTREAM_NODE", "one").start().await;
    let page = get(&alone.http("/page/transports.js")).await;
    assert!(!page.body.contains("NODE"), "{}", page.body);
}

#[tokio::test]
async fn an_edge_asks_the_leader_for_what_its_memory_lacks() {
    let cluster = Cluster::start().await;
    let rounds = cluster.database.finish_many_streamed(&cluster.edge, "crash", 20).await;
    let small = cluster.bus.edge().env("DATASTREAM_HISTORY", "2").start().await;
    let mut resumed = WsClient::connect(small.ws(&format!("/ws/crash?after={}", rounds[4]))).await;
    // From the outbox: at least once.
    let received = ids(&resumed.rounds_until(rounds[19]).await);
    assert!(rounds[5..].iter().all(|round| received.contains(round)), "{received:?}");
    let list = get(&small.http("/rounds/crash?limit=3")).await;
    let listed: Vec<i64> = list.json().as_array().expect("a list").iter().map(id).collect();
    assert_eq!(listed, [rounds[19], rounds[18], rounds[17]]);
    assert_eq!(get(&small.http("/sse/nobody")).await.status, 404);
    // Without a leader nobody knows: 503, and no gap. This edge has no earlier answer.
    let fresh = cluster.bus.edge().env("DATASTREAM_HISTORY", "2").start().await;
    cluster.capture.kill().await;
    let url = fresh.http(&format!("/sse/crash?after={}", rounds[3]));
    let asked = get(&url).await;
    assert_eq!(asked.status, 503, "{}", asked.body);
    assert!(!asked.header("retry-after").is_empty());
    let mut seeded = WsClient::connect(small.ws("/ws/crash")).await;
    assert_eq!(seeded.next_round().await.round_id, rounds[19]);
}

fn id(round: &serde_json::Value) -> i64 {
    round["round_id"].as_i64().expect("a number")
}

#[tokio::test]
async fn a_standby_takes_over_when_the_leader_is_killed() {
    let cluster = Cluster::start().await;
    let standby = standby(&cluster.bus).await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash")).await;
    let mut all = cluster.database.finish_many("crash", 5).await;
    assert_eq!(ids(&client.rounds(5).await), all);
    // The log decides who leads. A number in the row would let a successor elsewhere wait for its lease.
    let named = "select max(server)::text from datastream.exact_server";
    assert_eq!(cluster.database.text(named).await, None);
    cluster.capture.kill().await;
    all.extend(cluster.database.finish_many("crash", 5).await);
    assert_eq!(ids(&client.rounds(5).await), all[5..]);
    standby.counts("datastream_bus_leading 1").await;
    all.extend(cluster.database.finish_many("crash", 5).await);
    assert_eq!(ids(&client.rounds(5).await), all[10..]);
    // The rounds from before are still replayed exactly.
    let mut resumed =
        WsClient::connect(cluster.edge.ws(&format!("/ws/crash?after={}", all[2]))).await;
    assert_eq!(ids(&resumed.rounds(12).await), all[3..]);
    assert_eq!(cluster.database.text(named).await, None);
}

#[tokio::test]
async fn a_standby_takes_over_at_once_when_the_leader_stops() {
    let cluster = Cluster::start().await;
    let standby = cluster.bus.capture().env("DATASTREAM_BUS_TAKEOVER", "1min").start().await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash")).await;
    cluster.capture.signal("TERM");
    assert_eq!(cluster.capture.exit_code().await, Some(0));
    standby.counts("datastream_bus_leading 1").await;
    let round = cluster.database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
}

#[tokio::test]
async fn a_leader_that_was_paused_appends_nothing_when_it_wakes() {
    let cluster = Cluster::start().await;
    let standby = standby(&cluster.bus).await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash")).await;
    cluster.capture.freeze().await;
    let rounds = cluster.database.finish_many("crash", 5).await;
    assert_eq!(ids(&client.rounds(5).await), rounds);
    standby.counts("datastream_bus_leading 1").await;
    cluster.capture.signal("CONT");
    eventually("the former leader to stand by", || async {
        get(&cluster.capture.http("/readyz")).await.body.contains("standing_by").then_some(())
    })
    .await;
    let later = cluster.database.finish_many("crash", 5).await;
    assert_eq!(ids(&client.rounds(5).await), later);
    cluster.edge.counts("datastream_bus_left_out_total 0").await;
}

#[tokio::test]
async fn open_streams_go_on_after_nats_was_away() {
    let mut cluster = Cluster::start().await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash")).await;
    let first = cluster.database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    cluster.nats.kill().await;
    let missed = cluster.database.finish_many("crash", 5).await;
    let mut seeded = WsClient::connect(cluster.edge.ws("/ws/crash")).await;
    assert_eq!(seeded.next_round().await.round_id, first);
    cluster.edge.unready().await;
    cluster.nats.restart().await;
    assert_eq!(ids(&client.rounds(5).await), missed);
    assert_eq!(ids(&seeded.rounds(5).await), missed);
    cluster.edge.ready().await;
}

#[tokio::test]
async fn a_stream_that_was_deleted_and_made_again_begins_with_what_the_outbox_has() {
    let cluster = Cluster::start().await;
    let rounds = cluster.database.finish_many_streamed(&cluster.edge, "crash", 3).await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash?seed=none")).await;
    cluster.nats.api(&format!("STREAM.DELETE.{}", cluster.bus.stream), "");
    let missed = cluster.database.finish_many("crash", 3).await;
    let again = Bus::create(&cluster.nats.url(), &cluster.database.url()).await;
    assert_eq!(again.stream, cluster.bus.stream);
    assert_eq!(client.close_code().await, Some(1001));
    cluster.edge.ready().await;
    let mut resumed = eventually("a stream after the last round", || async {
        let url = cluster.edge.ws(&format!("/ws/crash?after={}", rounds[2]));
        WsClient::try_connect(&url, &[]).await.ok()
    })
    .await;
    // The bus lost this stretch: at least once.
    let received = ids(&resumed.rounds_until(missed[2]).await);
    assert!(missed.iter().all(|round| received.contains(round)), "{received:?}");
    let live = cluster.database.finish("crash", "{}").await;
    assert_eq!(resumed.next_round().await.round_id, live);
}

#[tokio::test]
async fn slugs_of_any_kind_and_rounds_larger_than_a_message_pass() {
    let (database, nats) = (TestDatabase::new().await, Nats::start().await);
    let long = "é".repeat(2_500);
    let slugs = ["a.b", "a b", "*", ">", "ünï", long.as_str()];
    for slug in slugs {
        let sql = "insert into games (slug, name, type) values ($s$%$s$, 'n', 'odd')";
        database.run(&sql.replace('%', slug)).await;
    }
    let bus = Bus::create(&nats.url(), &database.url()).await;
    let large = ("DATASTREAM_MAX_ROUND", "8MiB");
    let capture = bus.capture().env(large.0, large.1).start_unready().await;
    let edge = bus.edge().env("DATASTREAM_HEARTBEAT", "60s").start().await;
    let mut client = WsClient::connect(edge.ws("/ws/type/odd")).await;
    for slug in slugs {
        let round = database.finish(slug, r#"{"a": 1}"#).await;
        let received = client.next_round().await;
        assert_eq!((received.round_id, received.game_slug.as_str()), (round, slug));
    }
    let text = "x".repeat(3 << 20);
    let round = database.finish("a.b", &format!(r#"{{"a": "{text}"}}"#)).await;
    let received = client.next_round().await;
    assert_eq!((received.round_id, received.extras.len()), (round, text.len() + 9));
    drop(capture);
}

#[tokio::test]
async fn an_edge_that_meets_a_later_version_loses_nothing_silently() {
    let cluster = Cluster::start().await;
    let mut client = WsClient::connect(cluster.edge.ws("/ws/crash?seed=none")).await;
    let subject = format!("{}.log.m", cluster.bus.prefix);
    cluster.nats.publish(&subject, &[("Ds", "2 a later form")], "");
    assert_eq!(client.close_code().await, Some(1001));
    cluster.edge.unready().await;
    cluster.edge.counts("datastream_bus_unreadable_total 1").await;
    assert_eq!(get(&cluster.edge.http("/sse/crash")).await.status, 503);
}

#[tokio::test]
async fn a_missing_or_wrong_stream_ends_the_program_with_what_to_do() {
    let (database, nats) = (TestDatabase::new().await, Nats::start().await);
    let bus = Bus::named(&nats.url(), &database.url());
    for server in [bus.edge(), bus.capture()] {
        let (code, log) = server.start_unready().await.last_words().await;
        assert_eq!(code, Some(1));
        let last = log.last().expect("a line");
        assert!(last.contains("Run: datastream bus create"), "{last}");
    }
    let wrong = format!(
        r#"{{"name":"{}","subjects":["{}.log.>"],"allow_direct":true,"max_msgs":10}}"#,
        bus.stream, bus.prefix
    );
    nats.api(&format!("STREAM.CREATE.{}", bus.stream), &wrong);
    for server in [bus.edge(), bus.capture()] {
        let (code, log) = server.start_unready().await.last_words().await;
        assert_eq!(code, Some(1));
        let last = log.last().expect("a line");
        assert!(last.contains("max_msgs") && last.contains("datastream bus check"), "{last}");
    }
    let checked = bus.command(&["bus", "check"]).await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("max_msgs is 10, not -1"), "{}", checked.stdout);
    assert!(checked.stdout.contains("republish"), "{}", checked.stdout);
}

#[tokio::test]
async fn wrong_credentials_end_the_program_with_what_to_do() {
    let database = TestDatabase::new().await;
    let nats = Nats::start_with(&["--user", "bus", "--pass", "right"]).await;
    let url = nats.url().replace("nats://", "nats://bus:wrong@");
    let bus = Bus::named(&url, &database.url());
    for server in [bus.edge(), bus.capture()] {
        let (code, log) = server.start_unready().await.last_words().await;
        assert_eq!(code, Some(1));
        let last = log.last().expect("a line");
        assert!(last.contains("refuses the credentials"), "{last}");
        assert!(last.contains("DATASTREAM_BUS_CREDS") && !last.contains("wrong"), "{last}");
    }
    let right = Bus::create(&url.replace("wrong", "right"), &database.url()).await;
    let checked = right.command(&["bus", "check"]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}

#[tokio::test]
async fn a_nats_that_is_too_old_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    testkit::wait::beside(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut socket, _)) = listener.accept().await {
            let info = "INFO {\"server_id\":\"x\",\"version\":\"2.12.0\",\"jetstream\":true,\
                        \"headers\":true,\"max_payload\":1048576}\r\n";
            let _ = socket.write_all(info.as_bytes()).await;
            let mut read = [0; 1024];
            while matches!(socket.read(&mut read).await, Ok(1..)) {
                let _ = socket.write_all(b"PONG\r\n").await;
            }
        }
    });
    let checked = Bus::named(&url, "postgres:///").command(&["bus", "check"]).await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("NATS 2.12.0 is too old"), "{}", checked.stdout);
    let (code, log) =
        Bus::named(&url, "postgres:///").edge().start_unready().await.last_words().await;
    assert_eq!(code, Some(1));
    assert!(log.last().expect("a line").contains("2.12.1"), "{log:?}");
}

#[tokio::test]
async fn an_absent_nats_is_waited_for() {
    let database = TestDatabase::new().await;
    let mut nats = Nats::start().await;
    let bus = Bus::create(&nats.url(), &database.url()).await;
    nats.kill().await;
    let (capture, edge) = (bus.capture().start_unready().await, bus.edge().start_unready().await);
    edge.logs("NATS does not answer").await;
    assert_eq!(get(&edge.http("/healthz")).await.status, 200);
    assert_eq!(get(&edge.http("/readyz")).await.status, 503);
    nats.restart().await;
    edge.ready().await;
    capture.ready().await;
}

#[tokio::test]
async fn an_edge_that_publishes_a_round_is_refused_by_the_documented_permissions() {
    let database = TestDatabase::new().await;
    let document = include_str!("../docs/scale-out.md");
    let config = document.split("```text nats.conf\n").nth(1).expect("a configuration");
    let config = config.split("```").next().expect("its end");
    let nats = Nats::configured(config).await;
    let as_user = |user: &str| nats.url().replace("nats://", &format!("nats://{user}@"));
    let named = |user: &str| Bus {
        stream: "DATASTREAM".to_owned(),
        prefix: "datastream".to_owned(),
        ..Bus::named(&as_user(user), &database.url())
    };
    let made = named("admin:admin-password").command(&["bus", "create", "--replicas", "1"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let capture = leader(&named("capture:capture-password")).await;
    let edge = named("edge:edge-password").edge().start().await;
    let mut client = WsClient::connect(edge.ws("/ws/crash")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
    assert_eq!(get(&edge.http("/rounds/crash")).await.status, 200);
    for subject in ["datastream.log.r.1", "datastream.live.r.1", "datastream.beat"] {
        let refused = nats.publish_as("edge", "edge-password", subject);
        assert!(refused.contains("Permissions Violation"), "{subject}: {refused}");
    }
    edge.counts("datastream_bus_unauthorized_total 0").await;
    capture.counts("datastream_bus_unauthorized_total 0").await;
}
