//! Another region: a leaf node of NATS with a mirror of the stream.

use testkit::{
    TestDatabase, TestServer, WsClient,
    cluster::free_port,
    nats::{Bus, Nats},
    round::ids,
};

use crate::bus::leader;

/// The hub, and a leaf node that is connected to it.
async fn leaf() -> (Nats, Nats) {
    let port = free_port();
    let hub = format!(
        "server_name: hub\njetstream {{ domain: hub }}\n\
         leafnodes {{ host: 127.0.0.1, port: {port} }}\n"
    );
    let leaf = format!(
        "server_name: leaf\njetstream {{ domain: leaf }}\n\
         leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{port}\" }} ] }}\n"
    );
    (Nats::configured(&hub).await, Nats::configured(&leaf).await)
}

/// The configuration of the mirror in docs/scale-out.md, for another stream and prefix.
fn mirror(bus: &Bus) -> String {
    let document = include_str!("../docs/scale-out.md");
    let config = document.split("```json mirror\n").nth(1).expect("a configuration");
    let config = config.split("```").next().expect("its end").replace('\n', " ");
    let config = config.replace("DATASTREAM", &bus.stream).replace("datastream", &bus.prefix);
    config.replace("\"num_replicas\": 3", "\"num_replicas\": 1")
}

fn edge_of(bus: &Bus, nats: &Nats) -> testkit::server::Builder {
    Bus { url: nats.url(), ..bus.clone() }.edge().env("DATASTREAM_BUS_DOMAIN", "leaf")
}

#[tokio::test]
async fn an_edge_of_another_region_reads_a_mirror_and_resumes_exactly() {
    let database = TestDatabase::new().await;
    let (hub, leaf) = leaf().await;
    let bus = Bus::create(&hub.url(), &database.url()).await;
    let (_capture, near) = (leader(&bus).await, bus.edge().start().await);
    let made = leaf.api(&format!("STREAM.CREATE.{}", bus.stream), &mirror(&bus));
    assert!(!made.contains("\"error\""), "{made}");
    let far: TestServer = edge_of(&bus, &leaf).start().await;
    let (mut here, mut there) = (
        WsClient::connect(near.ws("/ws/crash")).await,
        WsClient::connect(far.ws("/ws/crash")).await,
    );
    let rounds = database.finish_many("crash", 20).await;
    let order = ids(&here.rounds(20).await);
    assert_eq!(ids(&there.rounds(20).await), order);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, rounds);
    // In the other region, after a round from here.
    let mut resumed = WsClient::connect(far.ws(&format!("/ws/crash?after={}", order[4]))).await;
    assert_eq!(ids(&resumed.rounds(15).await), order[5..]);
    // Of the capture beyond the leaf connection.
    assert_eq!(testkit::get(&far.http("/rounds/crash?limit=3")).await.status, 200);
    let restarted = edge_of(&bus, &leaf).start().await;
    let mut resumed =
        WsClient::connect(restarted.ws(&format!("/ws/crash?after={}", order[9]))).await;
    assert_eq!(ids(&resumed.rounds(10).await), order[10..]);
}

#[tokio::test]
async fn a_capture_refuses_a_mirror_and_an_edge_a_filtered_one() {
    let database = TestDatabase::new().await;
    let (hub, leaf) = leaf().await;
    let bus = Bus::create(&hub.url(), &database.url()).await;
    let there = Bus { url: leaf.url(), ..bus.clone() };
    leaf.api(&format!("STREAM.CREATE.{}", bus.stream), &mirror(&bus));
    let (code, log) = there.capture().start_unready().await.last_words().await;
    let last = log.last().expect("a line");
    assert_eq!(code, Some(1), "{last}");
    assert!(last.contains("it is a mirror"), "{last}");
    let checked = there.command(&["bus", "check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    leaf.api(&format!("STREAM.DELETE.{}", bus.stream), "");
    let filtered = mirror(&bus).replacen(
        "\"mirror\": {",
        &format!("\"mirror\": {{ \"filter_subject\": \"{}.log.r.>\",", bus.prefix),
        1,
    );
    let made = leaf.api(&format!("STREAM.CREATE.{}", bus.stream), &filtered);
    assert!(!made.contains("\"error\""), "{made}");
    let (code, log) = there.edge().start_unready().await.last_words().await;
    let last = log.last().expect("a line");
    assert_eq!(code, Some(1), "{last}");
    assert!(last.contains("mirror.filter_subject"), "{last}");
}
