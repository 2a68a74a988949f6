//! Two leaders and two edges in any interleaving, on a log that loses, lags, refuses and delays: at the
//! end each finish is in the log once, and each edge has sent it to each connection once.

use std::{
    collections::{BTreeSet, HashSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::watch;

use super::{
    memory_log::{Fate, MemoryLog},
    patience::beat,
    whole::overlapping,
};
use crate::{
    ops::{phase::Phase, telemetry::metrics::Metrics},
    stream::{
        bus::{
            Claim, Edge, EdgeSettings, LeaderState, LeaderView, LogWriter, PositionMark, Space,
            Takeover, WriterStart,
            codec::{LogMessage, decode},
            log::Log,
        },
        games::Games,
        hub::{self, Batch, Captured, Hub, Outlet, Publisher},
        round::{FinishedAt, GameId, Round, RoundId, UnixMillis},
        transaction::{Attachment, Xid},
    },
};

/// A step of the model.
#[derive(Clone, Debug)]
enum Step {
    /// Rounds commit.
    Commit(u8),
    /// A node claims, whatever it was before.
    Claim(usize),
    /// A node that leads, or takes itself to lead, publishes at most so many rounds.
    Poll(usize, u8),
    /// A node that leads learns that servers without a bus stream too, or that none does.
    Share(usize, bool),
    /// What becomes of the next append.
    Fate(Fate),
    /// Delayed appends arrive.
    Deliver,
    /// The log loses its last messages.
    Lose(u64),
    /// Reads lag.
    Lag(u64),
    /// Reads are answered by a replica that has not lost the end yet.
    Stale(u64),
    /// An edge gets some of what was published again: the first so many of the missing ones are lost.
    Live(usize, usize),
    /// An edge fills gaps.
    CatchUp(usize),
    /// An edge compares its place with the end.
    Compare(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fates = [Fate::Works, Fate::Refused, Fate::AnswerLost, Fate::Delayed];
    let step = prop_oneof![
        3 => (1_u8..5).prop_map(Step::Commit),
        2 => (0_usize..2).prop_map(Step::Claim),
        6 => (0_usize..2, 1_u8..5).prop_map(|(node, most)| Step::Poll(node, most)),
        1 => (0_usize..2, any::<bool>()).prop_map(|(node, shared)| Step::Share(node, shared)),
        1 => prop::sample::select(fates.to_vec()).prop_map(Step::Fate),
        1 => Just(Step::Deliver),
        1 => (1_u64..6).prop_map(Step::Lose),
        1 => (1_u64..4).prop_map(Step::Lag),
        1 => (1_u64..9).prop_map(Step::Stale),
        5 => (0_usize..2, 0_usize..3).prop_map(|(edge, lost)| Step::Live(edge, lost)),
        2 => (0_usize..2).prop_map(Step::CatchUp),
        2 => (0_usize..2).prop_map(Step::Compare),
    ];
    prop::collection::vec(step, 1..60)
}

/// The outbox: round n is of transaction n.
pub(super) fn round(number: u64) -> Captured {
    let round = Round {
        round_id: RoundId::number(number.cast_signed()),
        game_id: GameId::number(number.cast_signed() % 3),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(number.cast_signed()).expect("in range"),
        extras: "{}".into(),
        timestamp: UnixMillis(0),
    };
    let (xid, attachment, at) = (Xid(number), Attachment(0), Some(number.cast_signed()));
    Captured { round, xid, attachment, before: xid, poll: number, at, recorded: None }
}

pub(super) fn writer_start() -> WriterStart {
    WriterStart {
        metrics: Metrics::default(),
        state: watch::Sender::new(LeaderState::default()),
        refresh_every: Duration::from_secs(3_600),
        begin_bytes: 1 << 20,
        claim: Claim { node: "n".into(), backend: None, process: 1, former: 0 },
        greatest_end: 0,
    }
}

/// A node that took itself to lead when it last looked.
struct Leader {
    writer: LogWriter<MemoryLog>,
    /// Rounds that it knows to be in the log beyond the mark.
    already: HashSet<u64>,
    /// All rounds up to this one are in the log, as far as it knows.
    next: u64,
}

impl Leader {
    async fn claim(log: &MemoryLog, greatest_end: u64) -> Option<Self> {
        let takeover = Takeover::read(log).await.ok()?;
        let seen = takeover.mark.as_ref().map_or(0, |mark| {
            mark.snapshot.split(':').nth(1).and_then(|xmax| xmax.parse::<u64>().ok()).unwrap_or(1)
                - 1
        });
        let already = takeover.after.iter().map(|captured| captured.xid.0).collect();
        let is_new = takeover.mark.is_none();
        let claim = Claim { former: takeover.term, ..writer_start().claim };
        let start = WriterStart { greatest_end, claim, ..writer_start() };
        let mut writer = LogWriter::claim(log.clone(), start, takeover).await.ok()?;
        if is_new {
            writer.begin(Vec::new()).await.ok()?;
            writer.set_mark(mark(0, writer.end()));
            writer.open().await.ok()?;
        }
        Some(Self { writer, already, next: seen })
    }

    /// Publishes at most so many of the committed rounds; false if it is no leader any more.
    async fn poll(&mut self, committed: u64, most: u64) -> bool {
        let end = committed.min(self.next + most);
        let new: Vec<u64> =
            (self.next + 1..=end).filter(|number| !self.already.contains(number)).collect();
        if self.writer.publish(new.into_iter().map(round).collect()).await.is_err() {
            return false;
        }
        self.next = end;
        // As the cursor: a mark does not move while younger rounds are in the log.
        if !self.already.iter().any(|number| *number > end) {
            let is_shared = self.writer.is_shared();
            let mark = mark(end, self.writer.end());
            self.writer.set_mark(PositionMark { is_shared, ..mark });
        }
        true
    }
}

pub(super) fn mark(seen: u64, base: u64) -> PositionMark {
    let next = seen + 1;
    let (space, snapshot) = (Space::default(), format!("{next}:{next}:"));
    PositionMark { base, space, at: 0, snapshot, is_shared: false }
}

/// What an edge sends to each connection since it ended the streams last.
#[derive(Debug, Default)]
struct Recorder(Mutex<BTreeSet<i64>>);

impl Outlet for Recorder {
    fn publish(&self, batch: &Batch) {
        for placed in batch.iter() {
            let number = placed.frame.round_id().as_number().expect("a number");
            assert!(self.0.lock().insert(number), "round {number} came twice");
        }
    }

    fn end_streams(&self) {
        self.0.lock().clear();
    }
}

/// An edge.
pub(super) struct Viewer {
    pub(super) edge: Edge<MemoryLog>,
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    /// What it knows of the leader.
    pub(super) leader: watch::Receiver<Option<LeaderView>>,
    sent: Arc<Recorder>,
    read: u64,
}

impl Viewer {
    pub(super) fn new(log: &MemoryLog) -> Self {
        let made = hub::new(NonZeroUsize::new(10_000).expect("some"), Metrics::default());
        Self::with_hub(log, made)
    }

    /// One with this hub.
    pub(super) fn with_hub(log: &MemoryLog, (hub, publisher): (Hub, Publisher)) -> Self {
        let metrics = Metrics::default();
        let sent = Arc::new(Recorder::default());
        hub.attach(sent.clone());
        let (known, leader) = watch::channel(None);
        let settings = EdgeSettings {
            log: log.clone(),
            publisher,
            games: Games::default(),
            metrics: metrics.clone(),
            fill: Duration::from_secs(600),
            phase: watch::Sender::new(Phase::CatchingUp),
            leader: known,
            space: Arc::default(),
            read: watch::Sender::new(0),
        };
        Self { edge: Edge::new(settings), hub, metrics, leader, sent, read: 0 }
    }

    /// The rounds that its connections have got, by number.
    pub(super) fn received(&self) -> Vec<i64> {
        self.sent.0.lock().iter().copied().collect()
    }

    /// Gets a beat of this leader, which has appended everything.
    pub(super) fn receive_beat(&mut self, leader: &LogWriter<MemoryLog>) {
        self.edge.note_beat(beat(leader.term(), leader.end()), Duration::ZERO);
    }

    async fn live(&mut self, log: &MemoryLog, lost: usize) {
        for entry in log.after(self.read).into_iter().skip(lost) {
            self.read = entry.seq;
            self.edge.receive_in_test(entry).await;
        }
        self.edge.flush();
    }
}

async fn run(steps: Vec<Step>) {
    let log = MemoryLog::new();
    let (mut committed, mut greatest) = (0, 0);
    let mut nodes: [Option<Leader>; 2] = [None, None];
    let mut viewers = [Viewer::new(&log), Viewer::new(&log)];
    for viewer in &mut viewers {
        viewer.edge.fill_in_test().await;
    }
    for step in steps {
        match step {
            Step::Commit(rounds) => committed += u64::from(rounds),
            Step::Claim(node) => {
                nodes[node] = Leader::claim(&log, greatest).await;
                if let Some(leader) = &nodes[node] {
                    greatest = leader.writer.end();
                }
            }
            Step::Poll(node, most) => {
                if let Some(leader) = &mut nodes[node] {
                    let leads = leader.poll(committed, most.into()).await;
                    greatest = greatest.max(leader.writer.end());
                    if !leads {
                        nodes[node] = None;
                    }
                }
            }
            Step::Share(node, shared) => {
                nodes[node].iter_mut().for_each(|leader| leader.writer.share(shared));
            }
            Step::Fate(fate) => log.set_fate(fate),
            Step::Deliver => log.deliver(),
            Step::Lose(messages) => log.lose(messages),
            Step::Lag(messages) => log.set_lag(messages),
            Step::Stale(reads) => log.set_stale(reads),
            Step::Live(edge, lost) => viewers[edge].live(&log, lost).await,
            Step::CatchUp(edge) => drop(viewers[edge].edge.catch_up().await),
            Step::Compare(edge) => drop(viewers[edge].edge.compare_in_test().await),
        }
    }
    Box::pin(settle(&log, committed, greatest, viewers)).await;
}

/// Everything works from now on.
async fn settle(log: &MemoryLog, committed: u64, greatest: u64, mut viewers: [Viewer; 2]) {
    log.set_fate(Fate::Works);
    log.set_lag(0);
    log.set_stale(0);
    log.deliver();
    let mut leader = Leader::claim(log, greatest).await.expect("a leader");
    assert!(leader.poll(committed, u64::MAX / 2).await);
    leader.writer.share(false);
    leader.writer.open().await.expect("a mark");
    let mut found = Vec::new();
    for entry in log.after(0) {
        if let Ok(LogMessage::Round(round)) = decode(log.subjects(), &entry)
            && !round.is_repeat
        {
            found.push(round.captured.xid.0);
        }
    }
    let once: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(once.len(), found.len(), "a finish is in the log twice: {found:?}");
    assert_eq!(once.into_iter().collect::<Vec<_>>(), (1..=committed).collect::<Vec<_>>());
    for viewer in &mut viewers {
        // Twice: a comparison may lead back, or to a new start.
        for _ in 0..2 {
            viewer.edge.compare_in_test().await.expect("the log");
            viewer.edge.catch_up().await.expect("the log");
        }
        viewer.edge.flush();
        assert!(viewer.hub.is_open());
        assert_eq!(
            viewer.received(),
            (1..=committed.cast_signed()).collect::<Vec<_>>(),
            "an edge lacks a round"
        );
    }
    assert_exact(log, committed, leader, viewers).await;
}

/// Once a leader has appended what was lost, and no server without a bus streams any more, every edge
/// answers exactly, also one that starts now. Before that, it leaves out no round.
async fn assert_exact(
    log: &MemoryLog,
    committed: u64,
    mut leader: Leader,
    mut viewers: [Viewer; 2],
) {
    // An edge asks the leader for what overlaps with the transactions of its first mark.
    leader.writer.publish(vec![round(committed + 1)]).await.expect("published");
    leader.writer.share(true);
    leader.writer.publish(overlapping(committed + 2)).await.expect("published");
    leader.writer.share(false);
    leader.writer.open().await.expect("a mark");
    leader.writer.publish(overlapping(committed + 5)).await.expect("published");
    let mut new = Viewer::new(log);
    new.edge.fill_in_test().await;
    let [first, .., last] = [2, 3, 4, 5, 6, 7].map(|number| committed.cast_signed() + number);
    for viewer in viewers.iter_mut().chain([&mut new]) {
        viewer.edge.catch_up().await.expect("the log");
        viewer.edge.flush();
        let repeated: Vec<_> = [first].into_iter().chain(first + 2..=last).collect();
        assert_eq!(viewer.resumed_after(first + 1), repeated, "another server may differ");
        assert_eq!(viewer.resumed_after(last - 1), [last], "a resume repeats rounds");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_finish_is_in_the_log_once_and_reaches_each_connection_once(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(run(steps));
    }
}
