//! What a bus survives: NATS without a leader, losses that an edge reports, rounds of many parts.

use testkit::{
    TestDatabase, WsClient, eventually,
    nats::{Bus, Nats},
    round::ids,
};

use crate::bus::{Cluster, leader};

#[tokio::test]
async fn an_edge_stays_ready_while_nats_elects_a_leader() {
    let (database, mut nats) = (TestDatabase::new().await, Nats::cluster().await);
    let bus = Bus::create_replicated(&nats, &database.url()).await;
    let (_capture, edge) = (leader(&bus).await, bus.edge().start().await);
    let mut client = WsClient::connect(edge.ws("/ws/crash")).await;
    let first = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, first);
    // The third node alone can elect no leader, and passes on what captures send. A leader would go on
    // to answer for a while.
    let info = nats[0].api(&format!("STREAM.INFO.{}", bus.stream), "");
    let survivor = (0..3).find(|node| !info.contains(&format!(r#""leader":"n{node}""#)));
    let killed: Vec<usize> = (0..3).filter(|node| Some(*node) != survivor).collect();
    for node in &killed {
        nats[*node].kill().await;
    }
    edge.logs("cannot compare the end of the log now").await;
    edge.ready().await;
    let gave_up = edge.log().into_iter().find(|line| line.contains("cannot read the log"));
    assert_eq!(gave_up, None, "an election is no reason to be unready");
    let missed = database.finish_many("crash", 3).await;
    for node in killed {
        nats[node].restart().await;
    }
    assert_eq!(ids(&client.rounds(3).await), missed);
}

#[tokio::test]
async fn a_leader_that_noted_a_loss_leads_on_when_its_database_is_back() {
    let Cluster { database, bus, capture, edge, nats } = Cluster::start().await;
    drop(capture);
    let patient = bus.capture().env("DATASTREAM_BUS_TAKEOVER", "1min").start_unready().await;
    patient.counts("datastream_bus_leading 1").await;
    let claims = || {
        let filter = format!(r#"{{"subjects_filter":"{}.log.c"}}"#, bus.prefix);
        nats.api(&format!("STREAM.INFO.{}", bus.stream), &filter)
    };
    let has_claims = |count: usize| format!(r#""{}.log.c":{count}"#, bus.prefix);
    assert!(claims().contains(&has_claims(2)), "{}", claims());
    // What an edge reports, the leader notes with another claim.
    nats.publish(&format!("{}.ask.lost", bus.prefix), &[], "1");
    eventually("another claim", || async { claims().contains(&has_claims(3)).then_some(()) }).await;
    database.terminate_server_sessions().await;
    let mut client = WsClient::connect(edge.ws("/ws/crash?seed=none")).await;
    let round = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, round);
}

#[tokio::test]
async fn a_round_of_more_than_a_thousand_parts_passes() {
    let database = TestDatabase::new().await;
    let nats = Nats::configured("max_payload: 8192\n").await;
    let bus = Bus::create(&nats.url(), &database.url()).await;
    let capture = bus.capture().env("DATASTREAM_MAX_ROUND", "8MiB").start_unready().await;
    let edge = bus.edge().env("DATASTREAM_HEARTBEAT", "60s").start().await;
    let mut client = WsClient::connect(edge.ws("/ws/crash")).await;
    let text = "x".repeat(7 << 20);
    let round = database.finish("crash", &format!(r#"{{"a": "{text}"}}"#)).await;
    let received = client.next_round().await;
    assert_eq!((received.round_id, received.extras.len()), (round, text.len() + 9));
    let next = database.finish("crash", "{}").await;
    assert_eq!(client.next_round().await.round_id, next);
    capture.counts("datastream_bus_deposed_total 0").await;
}
