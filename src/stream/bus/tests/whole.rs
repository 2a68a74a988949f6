//! Whether an edge answers resume points exactly after a loss that a leader has made good.

use super::{
    memory_log::MemoryLog,
    model::{Viewer, mark, round, writer_start},
    patience::beat,
};
use crate::stream::{
    bus::{Claim, LogWriter, Takeover, WriterStart, log::Log},
    hub::{Captured, Opening, Start},
    round::RoundId,
    topic::Topic,
    transaction::Xid,
};

impl Viewer {
    /// The rounds that a client gets that resumes after this one.
    pub(super) fn resumed_after(&self, number: i64) -> Vec<i64> {
        let start = Start::After(RoundId::number(number));
        let opened = self.hub.subscribe(&Topic::Everything, start, usize::MAX);
        let Some((Opening::Resumed(resumed), _)) = opened else { return Vec::new() };
        let number = |frame: &crate::stream::frame::Frame| frame.round_id().as_number();
        resumed.frames.iter().filter_map(number).collect()
    }
}

/// Three rounds of one poll, of transactions that overlap: any of them may come first on another server.
pub(super) fn overlapping(first: u64) -> Vec<Captured> {
    let rounds = (first..first + 3).map(round);
    rounds.map(|it| Captured { before: Xid(first), poll: first, ..it }).collect()
}

async fn claim(log: &MemoryLog, greatest_end: u64) -> LogWriter<MemoryLog> {
    let takeover = Takeover::read(log).await.expect("a log");
    let claim = Claim { former: takeover.term, ..writer_start().claim };
    let start = WriterStart { greatest_end, claim, ..writer_start() };
    LogWriter::claim(log.clone(), start, takeover).await.expect("a claim")
}

async fn publish(writer: &mut LogWriter<MemoryLog>, rounds: Vec<Captured>) {
    let seen = rounds.last().expect("a round").xid.0;
    writer.publish(rounds).await.expect("published");
    writer.set_mark(mark(seen, writer.end()));
}

/// A log that lost rounds 2 to 4, its next leader, which has appended them again, and the
/// leader before it.
async fn lossy() -> (MemoryLog, LogWriter<MemoryLog>, LogWriter<MemoryLog>) {
    let log = MemoryLog::new();
    let mut first = claim(&log, 0).await;
    first.begin(Vec::new()).await.expect("begun");
    first.set_mark(mark(0, first.end()));
    first.open().await.expect("a mark");
    publish(&mut first, vec![round(1)]).await;
    publish(&mut first, overlapping(2)).await;
    log.lose(3);
    let mut second = claim(&log, first.end()).await;
    second.publish(overlapping(2)).await.expect("published");
    (log, second, first)
}

async fn catch_up(viewer: &mut Viewer) {
    viewer.edge.catch_up().await.expect("the log");
    viewer.edge.flush();
}

#[tokio::test]
async fn an_edge_that_starts_after_a_loss_was_made_good_answers_exactly_from_there_on() {
    let (log, mut leader, _) = lossy().await;
    leader.set_mark(mark(4, leader.end()));
    leader.open().await.expect("a mark");
    publish(&mut leader, overlapping(6)).await;
    leader.open().await.expect("a mark");
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    catch_up(&mut viewer).await;
    assert!(viewer.hub.is_open(), "without a beat");
    assert_eq!(viewer.resumed_after(7), [8], "a round behind the loss");
    assert_eq!(viewer.resumed_after(3), [2, 4, 6, 7, 8], "a lost round");
}

#[tokio::test]
async fn an_edge_answers_at_least_once_until_a_loss_is_made_good() {
    let (log, mut leader, former) = lossy().await;
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    catch_up(&mut viewer).await;
    // Of the leader before the loss, which knows nothing of it.
    viewer.edge.note_beat(beat(former.term(), former.end()), std::time::Duration::ZERO);
    publish(&mut leader, overlapping(6)).await;
    catch_up(&mut viewer).await;
    assert!(!viewer.hub.is_open(), "some lost rounds may still follow");
    leader.open().await.expect("a mark");
    catch_up(&mut viewer).await;
    assert!(viewer.hub.is_open());
    assert_eq!(viewer.resumed_after(7), [6, 8], "it was published before the loss was made good");
}

#[tokio::test]
async fn an_edge_answers_exactly_behind_a_leader_of_an_earlier_version_by_its_beat() {
    let (log, mut leader, _) = lossy().await;
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    catch_up(&mut viewer).await;
    viewer.receive_beat(&leader);
    publish(&mut leader, overlapping(6)).await;
    leader.publish(vec![round(9)]).await.expect("published");
    catch_up(&mut viewer).await;
    assert!(viewer.hub.is_open());
    publish(&mut leader, overlapping(10)).await;
    leader.publish(vec![round(13)]).await.expect("published");
    catch_up(&mut viewer).await;
    assert_eq!(viewer.resumed_after(11), [12, 13]);
    assert!(log.ends().await.is_ok());
}
