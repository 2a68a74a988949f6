//! The result of one query of the outbox, without the rounds' content. It is kept for the clients
//! that resume next, whatever their topic.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ops::memory_budget::Charge,
    stream::{
        hub::{DurablePosition, Replay},
        round::RoundId,
        round_store::StoredRounds,
        stored_round::{StoredPart, StoredRound, kept_bytes},
        topic::Topic,
        transaction::{Finish, Xid},
    },
};

/// How long a page is used; the hub's recent rounds continue it.
pub(super) const PAGE_TTL: Duration = Duration::from_secs(5);

/// The topics that a page answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Every topic.
    All,
    /// One topic, because the page of all topics does not reach back far enough.
    One(Topic),
}

/// What a page says of a resume point.
#[derive(Debug)]
pub(super) enum PageAnswer {
    /// The rounds that follow it.
    Replay(Replay),
    /// Retention has deleted rounds that follow it, or too many rounds follow it.
    Gap,
    /// The page does not reach back so far.
    Truncated,
}

/// The rounds from some transaction on, as of one query.
#[derive(Debug)]
pub(super) struct Page {
    read_at: Instant,
    /// The hub's position before the query: the page contains the rounds up to it, the hub has the
    /// later ones.
    pub(super) settled: DurablePosition,
    /// The page has no older transaction than this.
    from: Xid,
    /// For each round of the page that is a resume point: the transaction at which its replay begins.
    points: HashMap<RoundId, Xid>,
    rounds: Arc<[StoredRound]>,
    /// Whether the query's limit cut off older rounds.
    truncated: bool,
    /// Rounds of this transaction or an older one may be missing.
    trimmed: Xid,
    _charge: Charge,
}

impl Page {
    /// A page of the rounds found from this transaction on.
    pub(super) fn new(
        from: Xid,
        found: StoredRounds,
        settled: DurablePosition,
        mut charge: Charge,
    ) -> Self {
        charge.shrink(kept_bytes(found.rounds.len()));
        // If a transaction older than the page ran while a round was recorded, the page may miss
        // rounds that follow it: such a round is no resume point of this page.
        let mut points = HashMap::new();
        for round in found.rounds.iter().filter(|round| round.before >= from) {
            points.entry(round.finish.round.clone()).or_insert(round.before);
        }
        Self {
            read_at: Instant::now(),
            settled,
            from,
            points,
            rounds: found.rounds.into(),
            truncated: found.is_full,
            trimmed: found.trimmed,
            _charge: charge,
        }
    }

    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < PAGE_TTL
    }

    /// The transaction at which the replay after this round begins, if the page knows.
    pub(super) fn point(&self, named: &RoundId) -> Option<Xid> {
        self.points.get(named).copied()
    }

    /// Whether the snapshot of the page sees this round, whose replay the page answers.
    pub(super) fn has(&self, named: &RoundId) -> bool {
        self.rounds.iter().any(|round| round.finish.round == *named)
    }

    /// Whether a page that begins at this transaction would have no other rounds.
    pub(super) fn reaches(&self, from: Xid) -> bool {
        self.from <= from || self.truncated
    }

    /// Every round of the topic after the named one, whose replay begins at `from`.
    pub(super) fn after(
        &self,
        topic: &Topic,
        named: &RoundId,
        from: Xid,
        limit: usize,
    ) -> PageAnswer {
        let oldest = self.rounds.first().map_or(Xid(0), |round| round.finish.xid);
        if from <= self.trimmed {
            return PageAnswer::Gap;
        }
        if self.truncated && from <= oldest {
            return PageAnswer::Truncated;
        }
        let finishes = self.rounds.iter().map(|round| &round.finish);
        let mut known: Vec<Finish> =
            finishes.filter(|finish| finish.round == *named).cloned().collect();
        // If a round was finished more than once, the server cannot know which finish the client saw.
        if known.len() > 1 {
            known.clear();
        }
        let is_later = |round: &StoredRound| {
            round.finish.xid >= from && !known.contains(&round.finish) && round.is_of(topic)
        };
        let rounds = StoredPart::new(&self.rounds, is_later);
        if rounds.len() > limit {
            return PageAnswer::Gap;
        }
        PageAnswer::Replay(Replay { from, seen: self.settled.position, rounds, known })
    }
}

/// The newest page of each scope. Their bytes are charged, so their number needs no other limit.
#[derive(Debug, Default)]
pub(super) struct Pages(HashMap<Scope, Arc<Page>>);

impl Pages {
    /// The page of a scope.
    pub(super) fn get(&self, scope: &Scope) -> Option<Arc<Page>> {
        self.0.get(scope).filter(|page| page.is_fresh()).cloned()
    }

    /// Adds a page.
    pub(super) fn insert(&mut self, scope: &Scope, page: &Arc<Page>) {
        self.0.insert(scope.clone(), Arc::clone(page));
        self.remove_expired();
    }

    /// Removes a page that the hub's recent rounds do not continue.
    pub(super) fn remove(&mut self, scope: &Scope) {
        self.0.remove(scope);
    }

    /// Removes all pages, to make room.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes the pages that are older than [`PAGE_TTL`].
    pub(super) fn remove_expired(&mut self) {
        self.0.retain(|_, page| page.is_fresh());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ops::{memory_budget::MemoryBudget, telemetry::metrics::MemoryUse},
        stream::{round::GameId, transaction::Attachment},
    };

    fn page(rounds: &[(u64, i64)], trimmed: u64, is_full: bool) -> Page {
        let stored = rounds.iter().map(|&(xid, id)| {
            let (xid, attachment, round) = (Xid(xid), Attachment(0), RoundId::number(id));
            let game = (GameId::number(id % 2), Arc::from("multiplier"));
            let finish = Finish { xid, attachment, round };
            StoredRound { finish, before: xid, game, extras_bytes: 2 }
        });
        let found = StoredRounds { rounds: stored.collect(), is_full, trimmed: Xid(trimmed) };
        let charge = MemoryBudget::unlimited().take(MemoryUse::replays, None, 1 << 20);
        let from = Xid(rounds[0].0);
        Page::new(from, found, DurablePosition::default(), charge.expect("room"))
    }

    fn after(page: &Page, named: i64) -> Option<Vec<(u64, i64)>> {
        let named = RoundId::number(named);
        let from = page.point(&named)?;
        let PageAnswer::Replay(replay) = page.after(&Topic::Everything, &named, from, 10) else {
            return None;
        };
        let finish = |round: &StoredRound| (round.finish.xid.0, round.finish.round.columns().0);
        Some(replay.rounds.iter().map(finish).collect())
    }

    #[test]
    fn a_resume_point_that_retention_deleted_is_a_gap() {
        let page = page(&[(5, 1), (6, 2), (7, 3)], 5, false);
        assert_eq!(after(&page, 1), None);
        assert_eq!(after(&page, 2), Some(vec![(7, 3)]));
    }

    #[test]
    fn a_replay_contains_every_finish_of_a_round_that_was_finished_again() {
        let page = page(&[(5, 1), (6, 2), (7, 1), (8, 3)], 0, false);
        assert_eq!(after(&page, 1), Some(vec![(5, 1), (6, 2), (7, 1), (8, 3)]));
        assert_eq!(after(&page, 2), Some(vec![(7, 1), (8, 3)]));
    }

    #[test]
    fn one_page_answers_for_every_topic() {
        let page = page(&[(5, 1), (6, 2), (7, 3), (8, 4)], 0, false);
        let topic = Topic::game(GameId::number(0));
        let answer = page.after(&topic, &RoundId::number(1), Xid(5), 10);
        let PageAnswer::Replay(replay) = answer else { panic!("{answer:?}") };
        let ids: Vec<_> = replay.rounds.iter().map(|round| round.finish.xid.0).collect();
        assert_eq!(ids, [6, 8]);
        let too_many = page.after(&topic, &RoundId::number(1), Xid(5), 1);
        assert!(matches!(too_many, PageAnswer::Gap));
    }

    #[test]
    fn a_page_that_its_limit_cut_off_does_not_answer_for_its_oldest_transaction() {
        let page = page(&[(5, 1), (6, 2)], 0, true);
        let answer = |from| page.after(&Topic::Everything, &RoundId::number(9), Xid(from), 10);
        assert!(matches!(answer(5), PageAnswer::Truncated));
        assert!(matches!(answer(6), PageAnswer::Replay(_)));
        assert!(page.reaches(Xid(1)), "another query would find the same rounds");
    }
}
