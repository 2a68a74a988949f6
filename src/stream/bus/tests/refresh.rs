//! What the log would forget is written again, and edges that start later have it.

use super::{
    memory_log::MemoryLog,
    model::{Viewer, mark, round, writer_start},
};
use crate::stream::{
    bus::{LogWriter, Takeover, WriterStart, codec::is_repeat, log::Log, read::Ends},
    round::{Game, GameId},
    topic::Topic,
};

/// Half of the log's age is an hour.
const OLD: i64 = 4_000;

async fn claim(log: &MemoryLog) -> LogWriter<MemoryLog> {
    let takeover = Takeover::read(log).await.expect("a log");
    let Ends { last, .. } = log.ends().await.expect("ends");
    let start = WriterStart { greatest_end: last, ..writer_start() };
    LogWriter::claim(log.clone(), start, takeover).await.expect("a claim")
}

fn game(number: i64) -> Game {
    let id = GameId::number(number);
    Game { id, slug: "crash".into(), name: "Crash".into(), kind: "multiplier".into() }
}

/// A log with rounds 1 to 3, each of another game, written more than an hour ago.
async fn old_log() -> MemoryLog {
    let log = MemoryLog::new();
    let mut writer = claim(&log).await;
    writer.begin(Vec::new()).await.expect("begun");
    let games: Vec<_> = (0..3).map(game).collect();
    writer.replace_games(&games).await.expect("a directory");
    writer.publish((1..=3).map(round).collect()).await.expect("published");
    writer.set_mark(mark(3, writer.end()));
    writer.open().await.expect("a mark");
    log.set_written(chrono::Utc::now().timestamp() - OLD);
    log
}

fn repeats(log: &MemoryLog) -> usize {
    log.after(0).iter().filter(|entry| is_repeat(entry)).count()
}

#[tokio::test]
async fn a_log_whose_leaders_change_often_is_refreshed_once_its_messages_are_old() {
    let log = old_log().await;
    let mut second = claim(&log).await;
    second.keep_up().await.expect("refreshed");
    assert_eq!(repeats(&log), 3);
    second.keep_up().await.expect("nothing due");
    let mut third = claim(&log).await;
    third.keep_up().await.expect("nothing due");
    assert_eq!(repeats(&log), 3);
}

#[tokio::test]
async fn an_edge_that_starts_after_a_refresh_has_the_latest_round_of_a_quiet_game() {
    let log = old_log().await;
    let mut writer = claim(&log).await;
    // Game 1 goes on; the marks that follow see the rounds of the quiet games.
    writer.publish(vec![round(4)]).await.expect("published");
    writer.set_mark(mark(4, writer.end()));
    writer.open().await.expect("a mark");
    writer.keep_up().await.expect("refreshed");
    writer.publish(vec![round(7)]).await.expect("published");
    let mut viewer = Viewer::new(&log);
    viewer.edge.fill_in_test().await;
    viewer.edge.catch_up().await.expect("the log");
    viewer.edge.flush();
    assert!(viewer.hub.is_open());
    for (game, latest) in [(1, 7), (2, 2), (0, 3)] {
        let topic = Topic::game(GameId::number(game));
        let frame = viewer.hub.latest(&topic).and_then(Result::ok);
        let frame = frame.unwrap_or_else(|| panic!("no seed of game {game}"));
        assert_eq!(frame.round_id().as_number(), Some(latest));
    }
    let newest = viewer.hub.latest(&Topic::Everything).and_then(Result::ok).expect("a seed");
    assert_eq!(newest.round_id().as_number(), Some(7));
}
