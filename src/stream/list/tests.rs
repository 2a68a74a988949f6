//! Pages of a list, from a store of rounds that are deleted, large or unreadable.

use std::collections::{HashMap, HashSet};

use futures_util::FutureExt;

use super::*;
use crate::stream::{
    round::{Game, UnixMillis},
    round_store::{Answer, StoredRounds},
    transaction::{RoundName, Xid},
};

/// Rounds in the order of lists, with the size of their extras.
#[derive(Debug, Default)]
struct Stored {
    rounds: Vec<(i64, usize)>,
    deleted: HashSet<i64>,
    unreadable: HashSet<i64>,
    /// Their ids cannot be sent, so the store has no keys of them.
    bad: HashSet<i64>,
}

impl Stored {
    fn of(rounds: impl IntoIterator<Item = (i64, usize)>) -> Self {
        Self { rounds: rounds.into_iter().collect(), ..Self::default() }
    }
}

fn key(id: i64) -> ListKey {
    let finished_at = FinishedAt::from_micros(id).expect("in range");
    let place = ListPlace { finished_at, round: RoundId::number(id) };
    ListKey { place, attachment: Attachment(1) }
}

fn round(id: i64, size: usize) -> Round {
    Round {
        round_id: RoundId::number(id),
        game_id: GameId::number(1),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(id).expect("in range"),
        extras: "x".repeat(size).into(),
        timestamp: UnixMillis(0),
    }
}

impl RoundStore for Stored {
    fn games(&self) -> Answer<'_, Vec<Game>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn list_place<'a>(&'a self, _: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        async { Ok(vec![key(12)]) }.boxed()
    }

    fn list_keys<'a>(
        &'a self,
        _: &'a [GameId],
        after: Option<&'a ListPlace>,
        limit: usize,
    ) -> Answer<'a, ListKeys> {
        let keys = self.rounds.iter().map(|(id, _)| key(*id));
        let keys = keys.filter(|key| after.is_none_or(|after| key.place < *after));
        let keys: Vec<_> = keys.take(limit).collect();
        let is_last = keys.len() < limit;
        let sendable = |key: &ListKey| !self.bad.contains(&key.place.round.columns().0);
        let keys = keys.into_iter().filter(sendable).collect();
        async move { Ok(ListKeys { keys, is_last }) }.boxed()
    }

    fn list_rounds<'a>(&'a self, keys: &'a [ListKey], bytes: usize) -> Answer<'a, ListedRounds> {
        let (mut listed, mut read) = (ListedRounds::default(), 0);
        for key in keys {
            let id = key.place.round.columns().0;
            if self.unreadable.contains(&id) {
                let error = StoreError::Unreadable("damaged".to_owned());
                return async { Err(error) }.boxed();
            }
            if self.deleted.contains(&id) {
                continue;
            }
            if read >= bytes {
                listed.cut = Some(key.place.round.clone());
                break;
            }
            let size = self.rounds.iter().find(|round| round.0 == id).expect("stored").1;
            read += size;
            listed.rounds.push(round(id, size));
        }
        async { Ok(listed) }.boxed()
    }

    fn resume_points<'a>(&'a self, _: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>> {
        async { Ok(HashMap::new()) }.boxed()
    }

    fn replay<'a>(
        &'a self,
        _: Xid,
        _: Option<&'a [GameId]>,
        _: usize,
        _: &'a str,
    ) -> Answer<'a, StoredRounds> {
        async { Err(StoreError::Unavailable("no replay".to_owned())) }.boxed()
    }

    fn contents<'a>(&'a self, _: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

/// All pages: the ids of each.
async fn pages(store: &Stored, limit: usize) -> Vec<Vec<i64>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = read(store, &[], after.as_ref(), limit).await.expect("a page");
        let rounds: Vec<serde_json::Value> = serde_json::from_slice(&page.json).expect("JSON");
        assert!(page.json.len() <= PAGE_BYTES || rounds.len() == 1, "{}", page.json.len());
        let ids = rounds.iter().map(|round| round["round_id"].as_i64().expect("an id"));
        pages.push(ids.collect());
        match page.next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_list_goes_on_behind_any_number_of_rounds_without_a_place() {
    for (bad, limit) in [(5..=6, 1), (5..=6, 2), (3..=600, 1), (3..=600, 100)] {
        let mut store = Stored::of((1..=700).rev().map(|id| (id, 10)));
        store.bad = bad.clone().collect();
        let all: Vec<i64> = (1..=700).rev().filter(|id| !bad.contains(id)).collect();
        assert_eq!(pages(&store, limit).await.concat(), all, "{bad:?} {limit}");
    }
    let mut newest = Stored::of((1..=9).rev().map(|id| (id, 10)));
    newest.bad = (5..=9).collect();
    assert_eq!(pages(&newest, 1).await, [[4], [3], [2], [1]]);
}

#[tokio::test]
async fn pages_contain_every_round_once_up_to_the_limit() {
    let store = Stored::of((1..=250).rev().map(|id| (id, 10)));
    let all: Vec<i64> = (1..=250).rev().collect();
    assert_eq!(pages(&store, 250).await, std::slice::from_ref(&all));
    let read = pages(&store, 120).await;
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [120, 120, 10]);
    assert_eq!(read.concat(), all);
}

#[tokio::test]
async fn a_page_ends_before_it_exceeds_its_bytes_and_has_a_round() {
    let sizes = [300_000, 700_000, 400_000, 700_000, 5, 2_000_000, 2_000_000, 1];
    let store = Stored::of((1..=8).rev().zip(sizes));
    let read = pages(&store, 100).await;
    assert_eq!(read, [vec![8, 7], vec![6], vec![5, 4], vec![3], vec![2], vec![1]]);
}

#[tokio::test]
async fn rounds_that_are_deleted_or_cannot_be_read_are_left_out() {
    let mut store = Stored::of((1..=200).rev().map(|id| (id, 10)));
    store.deleted = HashSet::from([200, 101, 7, 1]);
    store.unreadable = HashSet::from([199, 100, 3]);
    let read = pages(&store, 50).await.concat();
    let is_there = |id: &i64| !store.deleted.contains(id) && !store.unreadable.contains(id);
    assert_eq!(read, (1..=200).rev().filter(is_there).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_is_full_behind_many_rounds_that_cannot_be_sent_and_no_link_leads_to_an_empty_one() {
    let mut store = Stored::of((1..=3_000).rev().map(|id| (id, 10)));
    store.deleted = (11..=2_999).chain(1..=5).collect();
    assert_eq!(pages(&store, 2).await, [vec![3_000, 10], vec![9, 8], vec![7, 6]]);
    assert_eq!(pages(&store, 1_000).await, [vec![3_000, 10, 9, 8, 7, 6]]);
}

#[tokio::test]
async fn a_name_is_looked_for_as_a_number_first() {
    let named = NamedRound::parse("12").expect("an id");
    let found = place_of(&Stored::default(), &named).await.expect("an answer");
    assert_eq!(found, Some(key(12).place));
    let named = NamedRound::parse("x").expect("an id");
    assert_eq!(place_of(&Stored::default(), &named).await.expect("an answer"), None);
}
