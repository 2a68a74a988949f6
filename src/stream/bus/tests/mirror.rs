//! A mirror that did not follow a loss of its origin.

use super::{
    memory_log::MemoryLog,
    model::{Viewer, mark, round, writer_start},
};
use crate::stream::bus::{Claim, LogWriter, Takeover, WriterStart, log::Log};

async fn claim(log: &MemoryLog, greatest_end: u64) -> LogWriter<MemoryLog> {
    let takeover = Takeover::read(log).await.expect("a log");
    let claim = Claim { former: takeover.term, ..writer_start().claim };
    let start = WriterStart { greatest_end, claim, ..writer_start() };
    LogWriter::claim(log.clone(), start, takeover).await.expect("a claim")
}

/// A log whose last two rounds were lost and written again, an edge that has read the first version of
/// them, and the leader.
async fn rewritten(again: &[u64]) -> (MemoryLog, Viewer, LogWriter<MemoryLog>) {
    let log = MemoryLog::new();
    let mut writer = claim(&log, 0).await;
    writer.begin(Vec::new()).await.expect("begun");
    writer.set_mark(mark(0, writer.end()));
    writer.open().await.expect("a mark");
    for number in 1..=5 {
        writer.publish(vec![round(number)]).await.expect("published");
    }
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    viewer.edge.catch_up().await.expect("the log");
    assert!(viewer.hub.is_open());
    log.lose(2);
    let mut second = claim(&log, writer.end()).await;
    for number in again {
        second.publish(vec![round(*number)]).await.expect("published");
    }
    (log, viewer, second)
}

#[tokio::test]
async fn an_edge_reads_what_replaced_a_lost_end() {
    let (log, mut viewer, _) = rewritten(&[6, 4, 5, 7]).await;
    for _ in 0..2 {
        viewer.edge.compare_in_test().await.expect("the log");
        viewer.edge.catch_up().await.expect("the log");
    }
    viewer.edge.flush();
    assert!(viewer.hub.is_open());
    assert_eq!(viewer.received(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(log.ends().await.is_ok());
}

#[tokio::test]
async fn an_edge_of_a_mirror_that_lacks_a_whole_term_stops() {
    let (log, mut viewer, _) = rewritten(&[6]).await;
    let end = log.ends().await.expect("ends").last;
    // A claim and a round are as many messages as were lost: the next one is the third leader's claim.
    let mut third = claim(&log, end).await;
    third.publish(vec![round(8)]).await.expect("published");
    log.keep_lost();
    assert!(viewer.edge.catch_up().await.is_err());
    assert!(!viewer.hub.is_open(), "it goes on without the rounds of the second leader");
}

#[tokio::test]
async fn an_edge_of_a_mirror_that_lacks_what_replaced_a_lost_end_stops() {
    let (log, mut viewer, mut leader) = rewritten(&[6, 4, 5, 7]).await;
    log.keep_lost();
    assert!(viewer.edge.catch_up().await.is_err());
    assert!(!viewer.hub.is_open(), "it goes on without round 6");
    assert!(viewer.edge.catch_up().await.is_err(), "it reads the same again");
    // Once the mirror is made again, the edge goes on without a restart.
    log.mirror_again();
    for _ in 0..2 {
        viewer.edge.compare_in_test().await.expect("the log");
        viewer.edge.catch_up().await.expect("the log");
    }
    viewer.receive_beat(&leader);
    leader.open().await.expect("a mark");
    viewer.edge.catch_up().await.expect("the log");
    viewer.edge.flush();
    assert!(viewer.hub.is_open());
    let topic = crate::stream::topic::Topic::Everything;
    let newest = viewer.hub.latest(&topic).and_then(Result::ok).expect("a seed");
    assert_eq!(newest.round_id().as_number(), Some(7));
}

/// A node of NATS whose stream was longer than that of the others, which elected a leader without it, may
/// keep what they lost, and follow from there on.
#[tokio::test]
async fn an_edge_starts_though_a_replica_has_other_messages_in_a_stretch() {
    let log = MemoryLog::new();
    let mut writer = claim(&log, 0).await;
    writer.begin(Vec::new()).await.expect("begun");
    writer.set_mark(mark(0, writer.end()));
    writer.open().await.expect("a mark");
    for number in 1..=40 {
        writer.publish(vec![round(number)]).await.expect("published");
    }
    log.lose(20);
    let mut leader = claim(&log, writer.end()).await;
    for number in (21..=40).rev().chain(41..=60) {
        leader.publish(vec![round(number)]).await.expect("published");
    }
    log.add_replica_with_lost();
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    // A page of that replica ends where the claim is missing: the next page is of another one.
    while viewer.edge.catch_up().await.is_err() {}
    viewer.receive_beat(&leader);
    leader.open().await.expect("a mark");
    while viewer.edge.catch_up().await.is_err() {}
    viewer.edge.flush();
    assert!(viewer.hub.is_open());
    assert_eq!(viewer.received(), (1..=60).collect::<Vec<_>>());
    assert_eq!(viewer.metrics.bus.fills_total.get(), 1, "it read the log again from its begin");
}
