//! The start of an edge whose log has more than its memory.

use std::{num::NonZeroUsize, sync::Arc};

use super::{
    memory_log::{Fate, MemoryLog},
    model::{Viewer, mark, round, writer_start},
};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::{
        bus::{LogWriter, Takeover},
        hub::{self, Batch, Captured, Hub, HubSettings, Outlet},
        round::{Game, GameId},
        start_point::SeedMode,
        topic::Topic,
    },
};

const GAMES: i64 = 40;

/// A round of a game of its own, of which a frame has some 200 KB.
fn large(number: i64) -> Captured {
    let mut captured = round(number.cast_unsigned());
    captured.round.game_id = GameId::number(number);
    captured.round.extras = "x".repeat(100_000).into();
    captured
}

fn game(number: i64) -> Game {
    let (id, slug) = (GameId::number(number), format!("game-{number}").into());
    Game { id, slug, name: "Game".into(), kind: "multiplier".into() }
}

/// An edge whose hub has 4 MiB for rounds.
fn small_edge(log: &MemoryLog) -> (Viewer, MemoryBudget) {
    let metrics = Metrics::default();
    let budget = MemoryBudget::new(8 << 20, &metrics);
    let history = NonZeroUsize::new(100).expect("not zero");
    let settings = HubSettings { history, replay_bytes: usize::MAX, budget: budget.clone() };
    (Viewer::with_hub(log, hub::with_settings(settings, metrics)), budget)
}

async fn begun_log() -> (MemoryLog, LogWriter<MemoryLog>) {
    let log = MemoryLog::new();
    let takeover = Takeover::read(&log).await.expect("a log");
    let mut writer =
        LogWriter::claim(log.clone(), writer_start(), takeover).await.expect("a claim");
    writer.replace_games(&(1..=GAMES).map(game).collect::<Vec<_>>()).await.expect("a directory");
    (log, writer)
}

fn assert_within_memory(budget: &MemoryBudget) {
    let used = budget.used(MemoryUse::history);
    assert!(used > 0 && used <= budget.share(MemoryUse::history), "{used} bytes");
}

#[tokio::test]
async fn the_latest_rounds_of_games_go_into_the_hub_page_by_page_and_within_its_memory() {
    let (log, mut writer) = begun_log().await;
    let latest = (1..=GAMES).map(|number| large(number).round).collect();
    writer.begin_with_latest(latest).await.expect("the latest");
    let (mut viewer, budget) = small_edge(&log);
    viewer.edge.fill_in_test().await;
    assert_within_memory(&budget);
    writer.begin(Vec::new()).await.expect("begun");
    writer.set_mark(mark(0, writer.end()));
    writer.open().await.expect("a mark");
    viewer.edge.catch_up().await.expect("the log");
    assert!(viewer.hub.is_open());
    assert_within_memory(&budget);
    let seeds = viewer.hub.seed_list(&Topic::Everything, SeedMode::Each);
    let missing = seeds.iter().filter(|seed| seed.is_err()).count() as i64;
    assert!((20..GAMES).contains(&missing), "{missing} of {GAMES}");
    for number in 1..=GAMES {
        let latest = viewer.hub.latest(&Topic::game(GameId::number(number)));
        assert!(latest.is_some(), "the latest round of game {number}");
    }
}

#[tokio::test]
async fn the_newest_of_the_repeated_rounds_are_kept_and_the_latest_of_each_game() {
    let (log, mut writer) = begun_log().await;
    writer.begin((1..=GAMES).map(large).collect()).await.expect("begun");
    writer.set_mark(mark(GAMES.cast_unsigned(), writer.end()));
    writer.open().await.expect("a mark");
    let (mut viewer, budget) = small_edge(&log);
    viewer.edge.fill_in_test().await;
    viewer.edge.catch_up().await.expect("the log");
    assert!(viewer.hub.is_open());
    assert_within_memory(&budget);
    for number in 1..=GAMES {
        let latest = viewer.hub.latest(&Topic::game(GameId::number(number)));
        assert!(latest.is_some(), "the latest round of game {number}");
    }
    writer.publish(vec![round(GAMES.cast_unsigned() + 1)]).await.expect("published");
    viewer.edge.catch_up().await.expect("the log");
    viewer.edge.flush();
    assert_eq!(viewer.received(), [GAMES + 1]);
}

/// Fails if a client could have connected before these rounds were published.
#[derive(Debug)]
struct NobodyYet(Hub);

impl Outlet for NobodyYet {
    fn publish(&self, batch: &Batch) {
        let number = batch.iter().next().and_then(|placed| placed.frame.round_id().as_number());
        assert!(!self.0.is_open(), "round {number:?} would come twice: as the seed and as a round");
    }

    fn end_streams(&self) {}
}

#[tokio::test]
async fn a_latest_round_from_beyond_the_end_does_not_come_again_once_streams_are_open() {
    let (log, mut writer) = begun_log().await;
    writer.begin(Vec::new()).await.expect("begun");
    writer.set_mark(mark(0, writer.end()));
    writer.open().await.expect("a mark");
    // An older round after the newest one of its game: the log ends with the newest one again.
    log.set_fate(Fate::Delayed);
    assert!(writer.publish(vec![round(31), round(4)]).await.is_err(), "it arrives later");
    log.deliver_before_page();
    let mut viewer = Viewer::new(&log);
    viewer.hub.attach(Arc::new(NobodyYet(viewer.hub.clone())));
    viewer.edge.fill_in_test().await;
    let newest = viewer.hub.latest(&Topic::Everything).and_then(Result::ok).expect("a seed");
    assert_eq!(newest.round_id().as_number(), Some(31));
    viewer.edge.catch_up().await.expect("the log");
    viewer.edge.flush();
    assert!(viewer.hub.is_open());
}
