//! What has to be done now and then: trim the outbox, find rounds the trigger could not record,
//! read the directory of games again, look at the queue. Each by itself: where one fails the others
//! are done all the same.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::Row;
use tokio::sync::watch;

use crate::{
    ops::{phase::Phase, shutdown::Shutdown, telemetry::metrics::Metrics},
    postgres::{connection, pool::Pool, round_queries::RoundQueries},
    stream::{games::Games, hub::Hub, transaction::Xid},
};

/// How often rounds are compared with the outbox; the comparison looks ten minutes back.
const EVERY: Duration = Duration::from_secs(60);
/// A transaction that was over so long ago finished no round of the last ten minutes.
const SETTLED_FOR: Duration = Duration::from_secs(20 * 60);
/// Rows trimmed in one statement, so that none holds its locks for long.
const TRIM_AT_ONCE: i32 = 1_000;
/// `query_canceled`: by the time limit of the query pool.
const TOOK_TOO_LONG: &str = "57014";

/// One task beside the capture, on connections of the query pool.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// Where to look.
    pub pool: Pool,
    /// Tells when the database is there.
    pub phase: watch::Receiver<Phase>,
    /// Tells which transactions are over.
    pub hub: Hub,
    /// The directory to refresh.
    pub games: Games,
    /// Where games come from.
    pub history: RoundQueries,
    /// How long outbox rows are kept for resume.
    pub retention: Duration,
    /// Where to count.
    pub metrics: Metrics,
}

impl Maintenance {
    /// Works whenever the capture becomes live, and each minute, until the shutdown. A failure is
    /// logged, and tried again a minute later.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut settled = Settled::default();
        while self.phase.wait_for(|phase| matches!(phase, Phase::Live { .. })).await.is_ok() {
            let served = since(&self.phase.borrow());
            if !self.round(&mut settled).await {
                // After a failover another host of the connection string may be the one.
                let _ = self.pool.follow().await;
            }
            // Ends early when the connection is lost, to begin anew with the next one; which may be
            // there already, if this one was lost during the work.
            let lost = self.phase.wait_for(|phase| since(phase) != served);
            let _ = tokio::time::timeout(EVERY, lost).await;
        }
    }

    /// Does all of it, whatever fails; says whether nothing did.
    async fn round(&self, settled: &mut Settled) -> bool {
        let since = settled.note(self.hub.settled().oldest_running);
        // First, since without it the outbox grows.
        let mut well = told("trimming the outbox", self.trim().await);
        well &= told("comparing the rounds with the outbox", self.reconcile(since).await);
        well &= told("reading the games", self.read_games().await);
        well & told("looking at the outbox", self.look().await)
    }

    /// Records finished rounds that have no row in the outbox; the next poll delivers them.
    async fn reconcile(&self, since: Xid) -> Result<(), sqlx::Error> {
        let query = sqlx::query(include_str!("../../sql/reconcile.sql"));
        let found: i64 = self.pool.fetch_one(query.bind(since.0.to_string())).await?.try_get(0)?;
        self.metrics.reconciliations_total.inc();
        if found > 0 {
            self.metrics.rounds_reconciled_total.inc_by(found.cast_unsigned());
            tracing::error!(
                rounds = found,
                "finished rounds that the trigger did not record were found and are delivered now; \
                 see the server's log for warnings of datastream"
            );
        }
        Ok(())
    }

    async fn trim(&self) -> Result<(), sqlx::Error> {
        let seconds = self.retention.as_secs_f64();
        loop {
            let query =
                sqlx::query(include_str!("../../sql/trim.sql")).bind(seconds).bind(TRIM_AT_ONCE);
            let trimmed: i64 = self.pool.fetch_one(query).await?.try_get(0)?;
            if trimmed < i64::from(TRIM_AT_ONCE) {
                return Ok(());
            }
        }
    }

    async fn read_games(&self) -> Result<(), sqlx::Error> {
        self.games.replace(self.history.read_games().await?);
        Ok(())
    }

    async fn look(&self) -> Result<(), sqlx::Error> {
        let query = sqlx::query(include_str!("../../sql/outbox_stats.sql"));
        let row = self.pool.fetch_one(query).await?;
        self.metrics.outbox_rows.set(row.try_get("rows")?);
        let oldest: Option<f64> = row.try_get("oldest_seconds")?;
        self.metrics.outbox_oldest_age_seconds.set(oldest.unwrap_or(0.0));
        self.metrics.notify_queue_usage.set(row.try_get("notify_queue")?);
        Ok(())
    }
}

/// Since when the stream is live, if it is.
fn since(phase: &Phase) -> Option<Instant> {
    match phase {
        Phase::Live { since } => Some(*since),
        Phase::Connecting { .. } | Phase::CatchingUp => None,
    }
}

/// Logs what failed, with what to do where that is known; says whether it went well.
fn told(step: &'static str, outcome: Result<(), sqlx::Error>) -> bool {
    let Err(error) = outcome else { return true };
    let remedy = match connection::code(&error).as_deref() {
        Some(TOOK_TOO_LONG) => {
            "; is there the index for seeds? `datastream doctor` tells, and `datastream attach \
             --index` builds it while the game goes on"
        }
        _ => "",
    };
    let error = connection::reason(&error);
    tracing::warn!(error, "{step} failed; trying again in a minute{remedy}");
    false
}

/// Which transactions were over when, for the last 20 minutes.
#[derive(Debug, Default)]
struct Settled {
    seen: VecDeque<(Instant, Xid)>,
    /// All before it were over 20 minutes ago; 0 until the process is that old.
    long_ago: Xid,
}

impl Settled {
    fn note(&mut self, now: Xid) -> Xid {
        self.seen.push_back((Instant::now(), now));
        while let Some((_, xid)) = self.seen.pop_front_if(|(at, _)| at.elapsed() > SETTLED_FOR) {
            self.long_ago = xid;
        }
        self.long_ago
    }
}
