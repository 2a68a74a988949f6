//! What one query has read of the outbox, kept for who comes next.

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

/// How long a page serves; what comes after it is taken from memory.
pub(super) const PAGE_KEPT: Duration = Duration::from_secs(5);
/// What all pages together may hold, but for the newest. Anybody can make topics; a page of 10,000
/// rounds of 200 bytes takes 7 MB, so that nine of those are kept.
const BUDGET: usize = 64 << 20;
/// What a round takes beside its bytes, about: an entry, two allocations, its point.
const ENTRY: usize = 256;

/// The rounds of a topic from some transaction on, as one query saw them.
#[derive(Debug)]
pub(super) struct Page {
    read_at: Instant,
    /// What the hub had published before the query: the page holds that, memory what came later.
    pub(super) settled: DurablePosition,
    /// For each round that was asked for or found: where its replay begins.
    points: HashMap<RoundId, Xid>,
    rounds: Vec<(Finish, Frame)>,
    /// Whether older rounds than these were left out.
    truncated: bool,
    /// Rounds of this transaction or an older one may be missing.
    trimmed: Xid,
    size: usize,
}

impl Page {
    /// Of what was found from these points on.
    pub(super) fn new(
        mut points: HashMap<RoundId, Xid>,
        found: &StoredRounds,
        settled: DurablePosition,
    ) -> Self {
        let from = points.values().min().copied().unwrap_or_default();
        // Of a round recorded beside an older transaction, the page may miss what came after.
        for captured in found.rounds.iter().filter(|captured| captured.before >= from) {
            points.entry(captured.round.round_id).or_insert(captured.before);
        }
        let rounds: Vec<(Finish, Frame)> = found
            .rounds
            .iter()
            .map(|it| ((it.xid, it.round.round_id), Frame::encode(&it.round)))
            .collect();
        let size = rounds.iter().map(|(_, frame)| frame.size() + ENTRY).sum();
        let (truncated, trimmed) = (found.is_full, found.trimmed);
        Self { read_at: Instant::now(), settled, points, rounds, truncated, trimmed, size }
    }

    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < PAGE_KEPT
    }

    /// Every round of the page after the named one; `None` when they are not all there.
    pub(super) fn after(&self, named: RoundId, limit: usize) -> Option<Replay> {
        let from = *self.points.get(&named)?;
        let oldest = self.rounds.first().map_or(Xid(0), |((xid, _), _)| *xid);
        if from <= self.trimmed || (self.truncated && from <= oldest) {
            return None;
        }
        let mut known: Vec<Finish> =
            self.rounds.iter().map(|(finish, _)| *finish).filter(|(_, id)| *id == named).collect();
        // Of a round that was finished again nobody knows which finish the client has seen.
        if known.len() > 1 {
            known.clear();
        }
        let later = |(finish, _): &&(Finish, Frame)| finish.0 >= from && !known.contains(finish);
        let rounds: Vec<_> = self.rounds.iter().filter(later).cloned().collect();
        let seen = self.settled.position;
        (rounds.len() <= limit).then_some(Replay { from, seen, rounds, known })
    }
}

/// The newest page of each topic, as far as they fit.
#[derive(Debug, Default)]
pub(super) struct Pages(HashMap<Topic, Arc<Page>>);

impl Pages {
    /// The page that has this round.
    pub(super) fn with(&self, topic: &Topic, named: RoundId) -> Option<Arc<Page>> {
        let page = self.0.get(topic)?;
        (page.is_fresh() && page.points.contains_key(&named)).then(|| Arc::clone(page))
    }

    /// Keeps a page; the oldest go where there are too many.
    pub(super) fn keep(&mut self, topic: &Topic, page: &Arc<Page>) {
        self.0.insert(topic.clone(), Arc::clone(page));
        self.tidy_up();
        while self.0.len() > 1 && self.0.values().map(|page| page.size).sum::<usize>() > BUDGET {
            let oldest = self.0.iter().min_by_key(|(_, page)| page.read_at);
            let Some(oldest) = oldest.map(|(topic, _)| topic.clone()) else { return };
            self.0.remove(&oldest);
        }
    }

    /// Forgets a page that memory does not continue.
    pub(super) fn forget(&mut self, topic: &Topic) {
        self.0.remove(topic);
    }

    /// Forgets the pages that are old.
    pub(super) fn tidy_up(&mut self) {
        self.0.retain(|_, page| page.is_fresh());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{
        hub::Captured,
        round::{FinishedAt, GameId, Round, UnixMillis},
    };

    fn found(rounds: &[(u64, i64)], trimmed: u64) -> StoredRounds {
        let rounds = rounds.iter().map(|&(xid, id)| {
            let round = Round {
                round_id: RoundId(id),
                game_id: GameId(1),
                game_slug: "crash".into(),
                game_type: "multiplier".into(),
                finished_at: FinishedAt::from_micros(id).expect("in range"),
                extras: "{}".into(),
                timestamp: UnixMillis(0),
            };
            Captured { round, xid: Xid(xid), before: Xid(xid), poll: 0, recorded: None }
        });
        StoredRounds { rounds: rounds.collect(), is_full: false, trimmed: Xid(trimmed) }
    }

    fn page(rounds: &[(u64, i64)], trimmed: u64) -> Page {
        let points = HashMap::from([(RoundId(rounds[0].1), Xid(rounds[0].0))]);
        Page::new(points, &found(rounds, trimmed), DurablePosition::default())
    }

    fn after(page: &Page, named: i64) -> Option<Vec<(u64, i64)>> {
        let replay = page.after(RoundId(named), 10)?;
        Some(replay.rounds.iter().map(|((xid, id), _)| (xid.0, id.0)).collect())
    }

    #[test]
    fn what_was_trimmed_before_the_rounds_were_read_is_a_gap() {
        let page = page(&[(5, 1), (6, 2), (7, 3)], 5);
        assert_eq!(after(&page, 1), None);
        assert_eq!(after(&page, 2), Some(vec![(7, 3)]));
    }

    #[test]
    fn of_a_round_that_was_finished_again_every_finish_is_replayed() {
        let page = page(&[(5, 1), (6, 2), (7, 1), (8, 3)], 0);
        assert_eq!(after(&page, 1), Some(vec![(5, 1), (6, 2), (7, 1), (8, 3)]));
        assert_eq!(page.after(RoundId(1), 10).expect("a replay").known, []);
        assert_eq!(after(&page, 2), Some(vec![(7, 1), (8, 3)]));
    }

    #[test]
    fn pages_of_many_topics_stay_within_the_budget_and_the_newest_is_kept() {
        let mut pages = Pages::default();
        for game in 0..100 {
            let topic = Topic::game(GameId(game));
            let mut page = page(&[(5, 1)], 0);
            page.size = BUDGET / 8;
            pages.keep(&topic, &Arc::new(page));
            assert!(pages.with(&topic, RoundId(1)).is_some());
            assert!(pages.0.values().map(|page| page.size).sum::<usize>() <= BUDGET);
        }
        assert!(pages.with(&Topic::game(GameId(98)), RoundId(1)).is_some());
        assert!(pages.with(&Topic::game(GameId(0)), RoundId(1)).is_none());
    }
}
