//! Against a real nats-server.

pub(super) mod memory_log;
mod mirror;
mod model;
pub(super) mod patience;
mod refresh;
mod start;
mod whole;

use std::time::Duration;

use async_nats::HeaderMap;
use testkit::nats::Nats;

use super::{
    log::Log,
    outgoing::Outgoing,
    read::{Ends, ReadFrom},
    *,
};
use crate::{ops::telemetry::metrics::Metrics, stream::round::GameId};

/// A new log on this NATS, or the one that is there.
pub(super) async fn bus(nats: &Nats) -> Bus {
    let options = BusConfig {
        url: nats.url().parse().expect("a URL"),
        stream: "DATASTREAM".into(),
        prefix: "datastream".into(),
        creds: None,
        ca: None,
        certificate: None,
        domain: None,
        node: "test".into(),
    };
    let client = nats::connect::connect(&options, &Metrics::default()).await.expect("connected");
    let bus = Bus::new(client, &options);
    let config = StreamConfig { replicas: 1, retention: Duration::from_secs(86_400) };
    config.create(&bus, 1_000).await.expect("created");
    assert_eq!(config.differences(&bus).await.expect("compared").len(), 0);
    bus
}

fn message(bus: &Bus, game: &str, payload: &str) -> Outgoing {
    let (subject, payload) =
        (bus.subjects().round(&GameId::text(game).expect("an id")), payload.to_owned().into());
    Outgoing { subject, headers: HeaderMap::new(), payload }
}

#[tokio::test]
async fn an_append_behind_another_end_stores_nothing() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let Ends { last, .. } = bus.ends().await.expect("ends");
    let one = bus.append(last, 0, vec![message(&bus, "a", "1")]).await.expect("appended");
    assert_eq!(one.seq, last + 1);
    let stale = bus.append(last, 0, vec![message(&bus, "a", "2"), message(&bus, "b", "3")]).await;
    assert!(matches!(stale, Err(AppendError::OtherEnd)), "{stale:?}");
    let stale = bus.append(last, 0, vec![message(&bus, "a", "2")]).await;
    assert!(matches!(stale, Err(AppendError::OtherEnd)), "{stale:?}");
    let many = (0..1_000).map(|n| message(&bus, &format!("g{}", n % 7), &n.to_string())).collect();
    let batch = bus.append(one.seq, 0, many).await.expect("appended");
    assert_eq!(batch.seq, one.seq + 1_000);
    assert_eq!(bus.ends().await.expect("ends").last, batch.seq);
    let read = bus.read(ReadFrom::Sequence(one.seq)).await.expect("read");
    assert_eq!((read.len(), read[0].seq, read[0].payload.as_ref()), (1_000, one.seq, &b"1"[..]));
    let rest = bus.read(ReadFrom::Sequence(one.seq + 1_000)).await.expect("read");
    assert_eq!(rest.iter().map(|it| it.payload.as_ref()).collect::<Vec<_>>(), [b"999"]);
    let subjects = bus.subjects_of("datastream.log.r.*").await.expect("subjects");
    assert_eq!(subjects.len(), 8);
    let mut latest = bus.last_of(&subjects, batch.seq).await.expect("latest");
    latest.sort_by_key(|it| it.seq);
    assert_eq!(latest.last().expect("one").payload.as_ref(), b"999");
    assert_eq!(latest.len(), 8);
    let since = bus.read(ReadFrom::Time(0)).await.expect("read");
    assert_eq!(since[0].seq, one.seq);
    assert_eq!(
        bus.last_of(&["datastream.log.g.none".to_owned()], batch.seq).await.expect("none").len(),
        0
    );
}
