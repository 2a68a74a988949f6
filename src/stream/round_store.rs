//! Reads of rounds that are no longer in the hub's ring buffers, and of the directory of games.
//!
//! This trait separates the stream from the database. `postgres::round_queries`
//! implements it, and `bus::BusStore` on an edge.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use super::{
    list::{ListKey, ListKeys, ListPlace, ListedRounds},
    round::{Game, GameId, NamedRound, Round, RoundId},
    stored_round::StoredRound,
    transaction::{RoundName, Xid},
};

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The store refused this one query: another query may succeed.
    #[error("{0}")]
    Refused(String),
    /// The answer would take the store too long: another attempt would too.
    #[error("{0}")]
    TooMuch(String),
    /// The store cannot read the content of a round: another query may succeed.
    #[error("{0}")]
    Unreadable(String),
    /// The store did not answer at all.
    #[error("{0}")]
    Unavailable(String),
}

/// The newest rounds after a transaction, in the order of their transactions.
#[derive(Debug)]
pub(crate) struct StoredRounds {
    /// The rounds that can be sent.
    pub rounds: Vec<StoredRound>,
    /// Whether the store returned as many rounds as the limit: older ones may be missing.
    pub is_full: bool,
    /// Retention may have deleted rounds of this transaction and of older ones.
    pub trimmed: Xid,
}

/// How far the hub has read the log that other servers send too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// There is none.
    NoLog,
    /// Up to its end, as far as this server can know.
    End,
    /// Not up to its end: another server may have sent later rounds.
    Behind,
}

/// The future of a read.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Cheap to clone.
pub(crate) type SharedRoundStore = Arc<dyn RoundStore>;

/// Reads of older rounds.
pub(crate) trait RoundStore: Debug + Send + Sync {
    /// Waits, for a while, until the hub has what its log has by now: another server of the same log may
    /// have sent it. Without a log there is nothing to wait for.
    fn caught_up(&self) -> BoxFuture<'_, Reach> {
        Box::pin(std::future::ready(Reach::NoLog))
    }

    /// All games, by id.
    fn games(&self) -> Answer<'_, Vec<Game>>;

    /// The finished rounds of this name.
    fn list_place<'a>(&'a self, named: &'a NamedRound) -> Answer<'a, Vec<ListKey>>;

    /// The keys of at most `limit` finished rounds of these games, newest first, after a place if one
    /// is given.
    fn list_keys<'a>(
        &'a self,
        games: &'a [GameId],
        after: Option<&'a ListPlace>,
        limit: usize,
    ) -> Answer<'a, ListKeys>;

    /// The content of these rounds, in order, up to so many bytes of extras.
    fn list_rounds<'a>(&'a self, keys: &'a [ListKey], bytes: usize) -> Answer<'a, ListedRounds>;

    /// For each of these rounds that the store contains: the oldest transaction that was in progress
    /// when the trigger recorded the round.
    fn resume_points<'a>(&'a self, rounds: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>>;

    /// Rounds of these games (of all games, if `None`) whose transaction is not older than `from`:
    /// the newest `limit` of the rounds that the snapshot sees, oldest first. Without their content.
    fn replay<'a>(
        &'a self,
        from: Xid,
        games: Option<&'a [GameId]>,
        limit: usize,
        snapshot: &'a str,
    ) -> Answer<'a, StoredRounds>;

    /// The content of these rounds, in no order, without those that cannot be sent any more.
    fn contents<'a>(&'a self, rounds: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>>;
}
