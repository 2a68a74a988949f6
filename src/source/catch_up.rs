//! From LISTEN to live: what a new connection has to bring before the stream goes on.

use std::collections::HashSet;

use super::{
    Capture, CaptureError, OVERLAP_MICROS, Progress,
    cursor::{Given, Moment, moment},
    listener::Listening,
};
use crate::{
    ops::telemetry::metrics::Source,
    stream::{
        hub::Captured,
        round::{Round, RoundId},
        transaction::Xid,
    },
};

impl Capture {
    /// Brings the stream up to what is committed by now.
    pub(super) async fn catch_up(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        self.parts.games.replace(listening.games().await?);
        match &self.progress {
            None => self.fill(listening).await?,
            Some(progress) if self.continues(progress, listening).await? => {
                self.resume(listening).await?;
            }
            Some(_) => self.start_over(listening).await?,
        }
        self.parts.publisher.open();
        Ok(())
    }

    /// Whether the outbox still tells all that happened since the last connection.
    async fn continues(
        &self,
        progress: &Progress,
        listening: &Listening,
    ) -> Result<bool, CaptureError> {
        let is_whole = listening.continues(&progress.identity, progress.cursor.safe()).await?;
        // An older copy may have begun as many transactions again.
        Ok(is_whole
            && match progress.cursor.landmark() {
                Some(row) if listening.trimmed().await? < row.finish.0 => {
                    listening.has(row).await?
                }
                _ => true,
            })
    }

    /// Another connection to the same database: polls from the last flushed snapshot.
    async fn resume(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let given = self.progress()?.cursor.rewind();
        let found_again = self.take_pages(listening, &given, Source::catch_up).await?;
        if found_again < given.len() {
            self.report_lost(given.len() - found_again);
        }
        Ok(())
    }

    fn report_lost(&self, rounds: usize) {
        self.parts.metrics.rounds_lost_by_database_total.inc();
        tracing::error!(
            rounds,
            "the database came back without its last commits (synchronous_commit = off? a standby \
             that lagged?): rounds that were streamed are not in it"
        );
    }

    /// A database with another history (failover, restore), where transaction ids say nothing, or
    /// an outbox that has been trimmed: what finished lately is compared with what was streamed.
    async fn start_over(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        tracing::warn!(
            was = ?self.progress()?.identity, now = ?listening.identity,
            "the database has another history, is an older copy of itself, or was away for longer \
             than the outbox is kept: catching up by finished_at"
        );
        let start = listening.poll(&listening.snapshot().await?).await?.seen;
        let since = self.progress()?.last_contact - OVERLAP_MICROS;
        let rounds = listening.finished_since(since).await?;
        let missing = self.missing(listening, since, &rounds).await?;
        listening.is_flushed(&start).await?;
        let given = self.progress()?.cursor.start_over(start.snapshot);
        let new = rounds.into_iter().filter(|round| !given.contains(&moment(round)));
        // No transaction of this history finished them for us; they are told by position.
        let captured = |round| Captured { round, xid: Xid(0), before: Xid(0), recorded: None };
        let new: Vec<_> = new.map(captured).collect();
        let streamed = new.iter().map(|captured| moment(&captured.round)).collect();
        let cursor = &mut self.progress()?.cursor;
        new.iter().for_each(|captured| cursor.remember(moment(&captured.round)));
        self.greet(listening).await?;
        self.publish(new, Source::catch_up);
        self.begin()?;
        self.take_pages(listening, &Given::by_moment(streamed), Source::catch_up).await?;
        self.progress()?.identity = listening.identity.clone();
        if missing > 0 {
            self.report_lost(missing);
        }
        Ok(())
    }

    /// How many rounds that were streamed lately this history does not know: they are not there,
    /// and its outbox has not recorded them by then, so that nobody has deleted or changed them. An
    /// outbox that has been trimmed since tells nothing.
    async fn missing(
        &self,
        listening: &Listening,
        since: i64,
        found: &[Round],
    ) -> Result<usize, CaptureError> {
        let Some(progress) = &self.progress else { return Ok(0) };
        let found: HashSet<Moment> = found.iter().map(moment).collect();
        let missing = progress.cursor.lately().filter(|given| !found.contains(given));
        let missing = missing.filter(|(_, at)| at.micros() >= since).map(|(id, _)| id);
        let missing: Vec<RoundId> = missing.collect::<HashSet<_>>().into_iter().collect();
        if missing.is_empty() || listening.trimmed().await? >= progress.cursor.safe().xmin() {
            return Ok(0);
        }
        let recorded = listening.recorded_by(progress.last_contact, &missing).await?;
        Ok(missing.len() - recorded.len())
    }

    /// What a new cursor's snapshot sees is on the stream by now.
    pub(super) fn begin(&mut self) -> Result<(), CaptureError> {
        let position = self.parts.publisher.position();
        self.progress()?.cursor.begins_at(position);
        self.settle()
    }
}
