//! Periodic work: retention of the outbox, reconciliation, the directory of games, gauges. Each step
//! by itself: if one fails, the others run all the same.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::Row;
use tokio::{sync::watch, time::timeout};

use crate::{
    ops::{phase::Phase, telemetry::metrics::Metrics},
    postgres::{connection, pool::Pool, round_queries::RoundQueries, sql::sql, sqlstate},
    stream::{games::Games, hub::Hub, transaction::Xid},
};

/// How often rounds are compared with the outbox; the comparison looks ten minutes back.
const EVERY: Duration = Duration::from_secs(60);
/// How often the notification queue is sampled: any role can fill it within 45 s.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A transaction that ended so long ago finished no round of the last ten minutes.
const ENDED_FOR: Duration = Duration::from_secs(20 * 60);
/// Rows deleted by one statement, so that none holds its locks for long.
const TRIM_AT_ONCE: i32 = 1_000;

/// One task beside the capture, on a connection of its own: no client can keep it busy.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// The connection.
    pub pool: Pool,
    /// Tells when the database is there.
    pub phase: watch::Receiver<Phase>,
    /// Tells which transactions have ended.
    pub hub: Hub,
    /// The directory to refresh.
    pub games: Games,
    /// Where games come from; on the same connection.
    pub queries: RoundQueries,
    /// How long outbox rows are kept for resume.
    pub retention: Duration,
    /// Where to count.
    pub metrics: Metrics,
}

impl Maintenance {
    /// Works whenever the capture becomes live, and each minute. A failure is logged; the next minute
    /// tries again.
    pub(crate) async fn run(mut self) {
        let mut ended = EndedTransactions::default();
        while self.phase.wait_for(|phase| matches!(phase, Phase::Live { .. })).await.is_ok() {
            let live_since = since(&self.phase.borrow());
            if !self.run_all(&mut ended).await {
                // After a failover another host of the connection string may be the primary.
                let _ = self.pool.follow().await;
            }
            let next = Instant::now() + EVERY;
            while since(&self.phase.borrow()) == live_since && Instant::now() < next {
                logged("sampling the notification queue", self.sample_queue().await);
                // A lost connection ends the wait early, even if the next one is live by now.
                let lost = self.phase.wait_for(|phase| since(phase) != live_since);
                let _ = timeout(SAMPLE_EVERY, lost).await;
            }
        }
    }

    /// Runs all steps; returns whether none failed.
    async fn run_all(&self, ended: &mut EndedTransactions) -> bool {
        let since = ended.record(self.hub.durable_position().oldest_running);
        // First, since without it the outbox grows.
        let mut ok = logged("deleting old outbox rows", self.trim().await);
        ok &= logged("comparing the rounds with the outbox", self.reconcile(since).await);
        ok &= logged("reading the games", self.read_games().await);
        ok & logged("reading the outbox's size", self.read_stats().await)
    }

    /// Records finished rounds that have no row in the outbox; the next poll finds them. Another
    /// server may be doing it: then nothing is counted.
    async fn reconcile(&self, since: Xid) -> Result<(), sqlx::Error> {
        let query = sqlx::query(sql!("reconcile"));
        let row = self.pool.fetch_one(query.bind(since.0.to_string())).await?;
        let Some(found) = row.try_get::<Option<i64>, _>(0)? else { return Ok(()) };
        self.metrics.reconciliations_total.inc();
        if found > 0 {
            self.metrics.rounds_reconciled_total.inc_by(found.cast_unsigned());
            tracing::error!(
                rounds = found,
                "the trigger did not record some finished rounds: they are sent now. Look for warnings \
                 of datastream in PostgreSQL's log."
            );
        }
        Ok(())
    }

    async fn trim(&self) -> Result<(), sqlx::Error> {
        let seconds = self.retention.as_secs_f64();
        loop {
            let query = sqlx::query(sql!("trim"));
            let row = self.pool.fetch_one(query.bind(seconds).bind(TRIM_AT_ONCE)).await?;
            // Null: another server is doing it.
            let deleted = row.try_get::<Option<i64>, _>(0)?.unwrap_or(0);
            if deleted < i64::from(TRIM_AT_ONCE) {
                return Ok(());
            }
        }
    }

    async fn read_games(&self) -> Result<(), sqlx::Error> {
        self.games.replace(self.queries.read_games().await?);
        Ok(())
    }

    async fn read_stats(&self) -> Result<(), sqlx::Error> {
        let query = sqlx::query(sql!("outbox_stats"));
        let row = self.pool.fetch_one(query).await?;
        self.metrics.outbox_rows.set(row.try_get("rows")?);
        let oldest: Option<f64> = row.try_get("oldest_seconds")?;
        self.metrics.outbox_oldest_age_seconds.set(oldest.unwrap_or(0.0));
        Ok(())
    }

    async fn sample_queue(&self) -> Result<(), sqlx::Error> {
        let query = sqlx::query("select pg_notification_queue_usage()");
        let usage = self.pool.fetch_one(query).await?.try_get(0)?;
        self.metrics.notify_queue_usage.set(usage);
        Ok(())
    }
}

/// Since when the stream is live, if it is.
fn since(phase: &Phase) -> Option<Instant> {
    match phase {
        Phase::Live { since } => Some(*since),
        Phase::Connecting { .. } | Phase::CatchingUp | Phase::StandingBy => None,
    }
}

/// Logs a failure, with the fix if it is known; returns whether there was none.
fn logged(step: &'static str, outcome: Result<(), sqlx::Error>) -> bool {
    let Err(error) = outcome else { return true };
    let fix = match connection::code(&error).as_deref() {
        Some(sqlstate::QUERY_CANCELED) => {
            ". The seed index may be missing: run `datastream doctor`, and `datastream attach --index`, \
             which builds it while the game goes on"
        }
        _ => "",
    };
    let error = connection::reason(&error);
    tracing::warn!(error, "{step} failed; trying again in a minute{fix}");
    false
}

/// The oldest transactions in progress during the last 20 minutes.
#[derive(Debug, Default)]
struct EndedTransactions {
    seen: VecDeque<(Instant, Xid)>,
    /// All before it ended 20 minutes ago; 0 until the process is that old.
    long_ago: Xid,
}

impl EndedTransactions {
    fn record(&mut self, oldest_running: Xid) -> Xid {
        self.seen.push_back((Instant::now(), oldest_running));
        while let Some((_, xid)) = self.seen.pop_front_if(|(at, _)| at.elapsed() > ENDED_FOR) {
            self.long_ago = xid;
        }
        self.long_ago
    }
}
