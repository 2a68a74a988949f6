//! The result of one query of the outbox, kept for the clients that resume next.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::stream::{
    frame::Frame,
    hub::{DurablePosition, Replay},
    round::RoundId,
    round_store::StoredRounds,
    topic::Topic,
    transaction::{Finish, Xid},
};

/// How long a page is used; the hub's recent rounds continue it.
pub(super) const PAGE_TTL: Duration = Duration::from_secs(5);
/// Bytes of all pages except the newest. Any client can make topics, so their pages need a limit: a
/// page of 10,000 rounds of 200 bytes takes 7 MB, so nine such pages fit.
const BUDGET: usize = 64 << 20;
/// Estimated bytes per round besides its frame: an entry, two allocations, its resume point.
const ENTRY: usize = 256;

/// The rounds of a topic from some transaction on, as of one query.
#[derive(Debug)]
pub(super) struct Page {
    read_at: Instant,
    /// The hub's position before the query: the page contains the rounds up to it, the hub has the
    /// later ones.
    pub(super) settled: DurablePosition,
    /// For each requested or found round: the transaction at which its replay begins.
    points: HashMap<RoundId, Xid>,
    rounds: Vec<(Finish, Frame)>,
    /// Whether the query's limit cut off older rounds.
    truncated: bool,
    /// Rounds of this transaction or an older one may be missing.
    trimmed: Xid,
    size: usize,
}

impl Page {
    /// A page of the rounds found from these resume points on.
    pub(super) fn new(
        mut points: HashMap<RoundId, Xid>,
        found: &StoredRounds,
        settled: DurablePosition,
    ) -> Self {
        let from = points.values().min().copied().unwrap_or_default();
        // If a transaction older than the page ran while a round was recorded, the page may miss
        // rounds that follow it: such a round is no resume point of this page.
        for captured in found.rounds.iter().filter(|captured| captured.before >= from) {
            points.entry(captured.round.round_id.clone()).or_insert(captured.before);
        }
        let rounds: Vec<(Finish, Frame)> =
            found.rounds.iter().map(|it| (it.finish(), Frame::encode(&it.round))).collect();
        let size = rounds.iter().map(|(_, frame)| frame.size() + ENTRY).sum();
        let (truncated, trimmed) = (found.is_full, found.trimmed);
        Self { read_at: Instant::now(), settled, points, rounds, truncated, trimmed, size }
    }

    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < PAGE_TTL
    }

    /// Every round of the page after the named one; `None` if some of them may be missing.
    pub(super) fn after(&self, named: &RoundId, limit: usize) -> Option<Replay> {
        let from = *self.points.get(named)?;
        let oldest = self.rounds.first().map_or(Xid(0), |(finish, _)| finish.xid);
        if from <= self.trimmed || (self.truncated && from <= oldest) {
            return None;
        }
        let finishes = self.rounds.iter().map(|(finish, _)| finish);
        let mut known: Vec<Finish> =
            finishes.filter(|finish| finish.round == *named).cloned().collect();
        // If a round was finished more than once, the server cannot know which finish the client saw.
        if known.len() > 1 {
            known.clear();
        }
        let later = |(finish, _): &&(Finish, Frame)| finish.xid >= from && !known.contains(finish);
        let rounds: Vec<_> = self.rounds.iter().filter(later).cloned().collect();
        let seen = self.settled.position;
        (rounds.len() <= limit).then_some(Replay { from, seen, rounds, known })
    }
}

/// The newest page of each topic, within the budget.
#[derive(Debug, Default)]
pub(super) struct Pages(HashMap<Topic, Arc<Page>>);

impl Pages {
    /// The page of the topic, if it contains this resume point.
    pub(super) fn containing(&self, topic: &Topic, named: &RoundId) -> Option<Arc<Page>> {
        let page = self.0.get(topic)?;
        (page.is_fresh() && page.points.contains_key(named)).then(|| Arc::clone(page))
    }

    /// Adds a page and removes the oldest pages that exceed the budget.
    pub(super) fn insert(&mut self, topic: &Topic, page: &Arc<Page>) {
        self.0.insert(topic.clone(), Arc::clone(page));
        self.remove_expired();
        while self.0.len() > 1 && self.0.values().map(|page| page.size).sum::<usize>() > BUDGET {
            let oldest = self.0.iter().min_by_key(|(_, page)| page.read_at);
            let Some(oldest) = oldest.map(|(topic, _)| topic.clone()) else { return };
            self.0.remove(&oldest);
        }
    }

    /// Removes a page that the hub's recent rounds do not continue.
    pub(super) fn remove(&mut self, topic: &Topic) {
        self.0.remove(topic);
    }

    /// Removes the pages that are older than [`PAGE_TTL`].
    pub(super) fn remove_expired(&mut self) {
        self.0.retain(|_, page| page.is_fresh());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{
        hub::Captured,
        round::{FinishedAt, GameId, Round, UnixMillis},
        transaction::Attachment,
    };

    fn found(rounds: &[(u64, i64)], trimmed: u64) -> StoredRounds {
        let rounds = rounds.iter().map(|&(xid, id)| {
            let round = Round {
                round_id: RoundId::number(id),
                game_id: GameId::number(1),
                game_slug: "crash".into(),
                game_type: "multiplier".into(),
                finished_at: FinishedAt::from_micros(id).expect("in range"),
                extras: "{}".into(),
                timestamp: UnixMillis(0),
            };
            let (xid, attachment) = (Xid(xid), Attachment(0));
            Captured { round, xid, attachment, before: xid, poll: 0, recorded: None }
        });
        StoredRounds { rounds: rounds.collect(), is_full: false, trimmed: Xid(trimmed) }
    }

    fn page(rounds: &[(u64, i64)], trimmed: u64) -> Page {
        let points = HashMap::from([(RoundId::number(rounds[0].1), Xid(rounds[0].0))]);
        Page::new(points, &found(rounds, trimmed), DurablePosition::default())
    }

    fn after(page: &Page, named: i64) -> Option<Vec<(u64, i64)>> {
        let replay = page.after(&RoundId::number(named), 10)?;
        Some(
            replay
                .rounds
                .iter()
                .map(|(finish, _)| (finish.xid.0, finish.round.columns().0))
                .collect(),
        )
    }

    #[test]
    fn a_resume_point_that_retention_deleted_is_a_gap() {
        let page = page(&[(5, 1), (6, 2), (7, 3)], 5);
        assert_eq!(after(&page, 1), None);
        assert_eq!(after(&page, 2), Some(vec![(7, 3)]));
    }

    #[test]
    fn a_replay_contains_every_finish_of_a_round_that_was_finished_again() {
        let page = page(&[(5, 1), (6, 2), (7, 1), (8, 3)], 0);
        assert_eq!(after(&page, 1), Some(vec![(5, 1), (6, 2), (7, 1), (8, 3)]));
        assert_eq!(page.after(&RoundId::number(1), 10).expect("a replay").known, []);
        assert_eq!(after(&page, 2), Some(vec![(7, 1), (8, 3)]));
    }

    #[test]
    fn pages_of_many_topics_stay_within_the_budget_and_keep_the_newest() {
        let mut pages = Pages::default();
        for game in 0..100 {
            let topic = Topic::game(GameId::number(game));
            let mut page = page(&[(5, 1)], 0);
            page.size = BUDGET / 8;
            pages.insert(&topic, &Arc::new(page));
            assert!(pages.containing(&topic, &RoundId::number(1)).is_some());
            assert!(pages.0.values().map(|page| page.size).sum::<usize>() <= BUDGET);
        }
        assert!(pages.containing(&Topic::game(GameId::number(98)), &RoundId::number(1)).is_some());
        assert!(pages.containing(&Topic::game(GameId::number(0)), &RoundId::number(1)).is_none());
    }
}
