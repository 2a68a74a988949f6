//! How far this process has come, and on which database.

use super::{
    catch_up_queries::{CatchUpQueries, FinishedRound},
    cursor::{Cursor, RoundKey, round_key},
    error::CaptureError,
    listener::{Identity, Listener},
    poll::Bounds,
};
use crate::stream::{
    hub::Captured,
    round::{Round, RoundId},
    transaction::{Attachment, RoundName, Xid},
};
use std::collections::HashSet;

/// How far back a database on another timeline is searched for rounds that were not sent. As far as
/// reconciliation looks back.
pub(super) const OVERLAP_MICROS: i64 = 10 * 60 * 1_000_000;

/// What a database on another timeline has.
#[derive(Debug)]
pub(super) struct OtherTimeline {
    /// Rounds that were not sent, in order.
    pub(super) new: Vec<RoundName>,
    /// How many that were sent it has lost.
    pub(super) lost: usize,
}

/// The state once the initial load is done.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) cursor: Cursor,
    pub(super) identity: Identity,
    /// The last poll, by the database's clock, in microseconds since the epoch.
    pub(super) last_contact: i64,
}

impl Running {
    /// Whether the database was dropped and another one has its name: nothing of the old one counts.
    pub(super) fn is_of_another_database(&self, listener: &Listener) -> bool {
        self.identity.is_another_database_of_the_same_cluster(&listener.identity)
    }

    /// Whether the outbox still has all that happened since the last connection.
    pub(super) async fn continues_on(&self, listener: &Listener) -> Result<bool, CaptureError> {
        if !listener.continues(&self.identity, self.cursor.durable()).await? {
            return Ok(false);
        }
        // An older copy may have begun as many transactions again.
        let queries = listener.queries();
        match self.cursor.durable_row() {
            Some(row) if queries.trimmed().await? < row.finish.xid => queries.has(row).await,
            _ => Ok(true),
        }
    }

    /// Starts over on a database on another timeline (failover, restore), where transaction ids say
    /// nothing, or whose outbox was trimmed: rounds that finished recently are compared with those
    /// that were sent.
    pub(super) async fn start_over(
        &mut self,
        listener: &Listener,
    ) -> Result<OtherTimeline, CaptureError> {
        tracing::warn!(
            was = ?self.identity, now = ?listener.identity,
            "the database is on another timeline, is an older copy of itself, or was away for longer \
             than the outbox is kept: catching up by finished_at"
        );
        let queries = listener.queries();
        let saved = queries.snapshot().await?;
        let bounds = Bounds::beginning(&saved);
        let start = listener.reader().page(&saved, &bounds).await?.seen;
        let since = self.last_contact - OVERLAP_MICROS;
        let finished = queries.finished_since(since).await?;
        let lost = self.lost(queries, since, &finished).await?;
        queries.is_flushed(&start).await?;
        let published = self.cursor.start_over(start.snapshot);
        let new = finished.into_iter().filter(|round| !published.contains(&round.key));
        let new = new.map(|FinishedRound { attachment, key }| (attachment, key.round));
        Ok(OtherTimeline { new: new.collect(), lost })
    }

    /// Takes rounds of another timeline for published. No transaction of this timeline finished them:
    /// their positions order them.
    pub(super) fn capture(&mut self, rounds: Vec<Round>) -> Vec<Captured> {
        let (xid, attachment, poll) = (Xid(0), Attachment::default(), self.cursor.poll());
        let captured = rounds.into_iter().map(|round| {
            self.cursor.mark_published_by_key(round_key(&round));
            Captured { round, xid, attachment, before: xid, poll, at: None, recorded: None }
        });
        captured.collect()
    }

    /// How many rounds that were sent recently this database never had: they are not there, and its
    /// outbox had not recorded them by then, so nobody deleted or changed them. A trimmed outbox
    /// tells nothing.
    async fn lost(
        &self,
        queries: CatchUpQueries<'_>,
        since: i64,
        found: &[FinishedRound],
    ) -> Result<usize, CaptureError> {
        let found: HashSet<&RoundKey> = found.iter().map(|round| &round.key).collect();
        let missing = self.cursor.round_keys().filter(|key| !found.contains(key));
        let missing = missing.filter(|key| key.finished_at.micros() >= since).map(|key| &key.round);
        let missing: Vec<RoundId> = missing.collect::<HashSet<_>>().into_iter().cloned().collect();
        if missing.is_empty() || queries.trimmed().await? >= self.cursor.durable().xmin() {
            return Ok(0);
        }
        let recorded = queries.recorded_by(self.last_contact, &missing).await?;
        Ok(missing.len() - recorded.len())
    }
}
