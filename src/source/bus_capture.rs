//! A capture node on the bus: one leads and appends to the log, the others stand by.
//!
//! ```text
//!             ┌── no beat for 2 s, or the leader gave up ──┐
//!             ▼                                            │
//!  connect to PostgreSQL ──▶ read the log ──▶ claim    Standing by ◀── the log has another end, and
//!             ▲                                 │                      another node claimed
//!             │                                 ▼
//!             └── the database or NATS went ── catch-up, live
//! ```
//!
//! What a leader must know is in the log: it keeps nothing between two claims.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    connection::{Connection, State},
    connection_limits,
    cursor::{Cursor, OutboxKey, round_key},
    error::CaptureError,
    exact_claim::ClaimKind,
    exact_server::ServerName,
    listener::{Identity, Listener},
    probe::Probe,
    publisher::RoundPublisher,
    reconnect,
    running::{OVERLAP_MICROS, Running},
    suppression::Suppression,
};
use crate::{
    ops::{
        backoff::Backoff, memory_budget::MemoryBudget, phase::Phase, shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    postgres::target::PgTarget,
    stream::{
        bus::{
            Backend, Bus, BusError, Claim, LeaderState, LeaderWatch, Log as _, LogWriter,
            PositionMark, Takeover, WriterStart, answer_questions, send_beat,
        },
        games::Games,
        hub::{Captured, Position, Publisher},
        round_store::SharedRoundStore,
        sink::Sink,
        skipped_rounds::SkippedRounds,
        snapshot::Snapshot,
    },
};

/// The longest delay while the log cannot be written: NATS elects a leader within 4 to 9 s.
const BUS_DELAY_MAX: Duration = Duration::from_millis(250);

/// What a capture node works with.
#[derive(Debug)]
pub(crate) struct BusCaptureSettings {
    pub(crate) bus: Bus,
    /// This node's name.
    pub(crate) node: String,
    /// The database to listen to.
    pub(crate) listen: PgTarget,
    /// The database for queries; the probe is sent from there.
    pub(crate) queries: PgTarget,
    /// Recent rounds of each game with which a log begins.
    pub(crate) history: i64,
    /// The most bytes of them.
    pub(crate) begin_bytes: usize,
    /// How long rounds stay in the log: what it would forget is written again at half of that.
    pub(crate) log_age: Duration,
    /// Follows the leader.
    pub(crate) watch: LeaderWatch,
    /// Answers what edges ask.
    pub(crate) store: SharedRoundStore,
    /// The memory for the answers.
    pub(crate) budget: MemoryBudget,
    /// This process's hub, for maintenance.
    pub(crate) local: Arc<Publisher>,
    pub(crate) games: Games,
    pub(crate) metrics: Metrics,
    pub(crate) skipped: SkippedRounds,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) state: watch::Sender<LeaderState>,
    pub(crate) shutdown: Shutdown,
}

/// Why a capture node ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusCaptureError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] CaptureError),
    /// The log cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Leads, or stands by.
#[derive(Debug)]
pub(crate) struct BusCapture {
    settings: BusCaptureSettings,
    suppression: Suppression,
    server: ServerName,
    /// The last connection's: it may still hold locks.
    former: Option<Backend>,
    /// The sequence of this node's last claim; 0 before the first.
    claim: u64,
    /// Tells this process's claims in the log from those of others.
    process: u64,
    /// Whether it has stood by since.
    has_stood_by: bool,
}

/// How this node ceased to lead, or failed to begin.
#[derive(Debug)]
enum Ended {
    /// Another node leads.
    Deposed,
    /// The database or NATS does not answer, or the log lost its end.
    Failed(CaptureError),
}

impl From<CaptureError> for Ended {
    fn from(error: CaptureError) -> Self {
        Self::Failed(error)
    }
}

impl BusCapture {
    pub(crate) fn new(settings: BusCaptureSettings) -> Self {
        let (suppression, suppressing) =
            Suppression::new(settings.listen.clone(), settings.metrics.clone());
        settings.shutdown.spawn_until_requested(suppressing);
        Self {
            settings,
            suppression,
            server: ServerName::of_this_process(),
            former: None,
            claim: 0,
            process: fastrand::u64(1..),
            has_stood_by: true,
        }
    }

    /// Captures until the shutdown. An error is one that waiting cannot fix, met before this node
    /// has led.
    pub(crate) async fn run(mut self) -> Result<(), BusCaptureError> {
        let shutdown = self.settings.shutdown.clone();
        let outcome = tokio::select! {
            () = shutdown.requested() => Ok(()),
            outcome = self.take_turns() => outcome.map(|never| match never {}),
        };
        self.release().await;
        outcome
    }

    async fn take_turns(&mut self) -> Result<Infallible, BusCaptureError> {
        let mut backoff = Backoff::default();
        loop {
            self.stand_by().await;
            while let Ended::Failed(error) = self.lead_once(&mut backoff).await {
                if error.is_final() && self.claim == 0 {
                    return Err(error.into());
                }
                if Phase::publish_problem(&self.settings.phase, &error) {
                    tracing::warn!(%error, "this capture node cannot lead now; trying again");
                }
                let delay = match error {
                    CaptureError::Bus(_) => backoff.delay_up_to(BUS_DELAY_MAX),
                    error => reconnect::delay(&error, &mut backoff),
                };
                tokio::time::sleep(delay).await;
                self.settings.watch.catch_up();
            }
            tracing::info!("another capture node leads: standing by");
        }
    }

    /// Waits until nobody leads.
    async fn stand_by(&mut self) {
        let BusCaptureSettings { phase, state, watch, .. } = &mut self.settings;
        phase.send_replace(Phase::StandingBy);
        state.send_replace(LeaderState::default());
        watch.wait(self.claim).await;
        self.has_stood_by = true;
    }

    /// Leads until that ends; says in the beat that another node may take over.
    async fn lead_once(&mut self, backoff: &mut Backoff) -> Ended {
        let Err(ended) = self.lead(backoff).await;
        let settings = &mut self.settings;
        settings.metrics.listener_connected.set(0);
        settings.metrics.bus.leading.set(0);
        self.suppression.set(false);
        settings.watch.note_end(settings.state.borrow().end);
        settings.state.send_modify(|state| (state.is_live, state.is_released) = (false, true));
        ended
    }

    /// The last beat: the next node takes over at once.
    async fn release(&mut self) {
        let BusCaptureSettings { bus, node, state, .. } = &self.settings;
        state.send_modify(|state| (state.is_live, state.is_released) = (false, true));
        let last = state.borrow().clone();
        send_beat(bus, node, &last).await;
        bus.flush().await;
    }

    /// From LISTEN to the end of the connection, or of the leadership.
    async fn lead(&mut self, backoff: &mut Backoff) -> Result<Infallible, Ended> {
        let settings = &self.settings;
        // First, since a log that cannot be read would cost the database a connection at each try.
        settings.bus.ends().await.map_err(bus_error)?;
        let (listener, claim) = Listener::start(
            &settings.listen,
            (&self.server, ClaimKind::Leader),
            self.former.as_ref(),
            &settings.shutdown,
        )
        .await?;
        let listener = listener.counting(settings.skipped.clone());
        self.former = listener.backend.clone();
        settings.metrics.listener_connects_total.inc();
        connection_limits::warn(listener.session()).await?;
        settings.skipped.name_tables(listener.queries().tables().await?);
        let (writer, mut state) = self.claim(&listener).await?;
        let settings = &self.settings;
        settings.phase.send_replace(Phase::CatchingUp);
        let sink = Sink::Log { writer: Box::new(writer), local: Arc::clone(&settings.local) };
        let (games, metrics) = (settings.games.clone(), settings.metrics.clone());
        let mut publisher =
            RoundPublisher::new(sink, games, metrics.clone(), settings.skipped.clone());
        let mut connection = Connection { listener, claim, publisher: &mut publisher };
        let answering = answer_questions(
            settings.bus.clone(),
            settings.store.clone(),
            settings.state.clone(),
            metrics.clone(),
            settings.budget.clone(),
        );
        let leading = self.follow(&mut connection, &mut state, backoff);
        tokio::select! {
            ended = leading => Ok(ended?),
            ended = answering => {
                ended.map_err(bus_error)?;
                Err(CaptureError::Closed.into())
            }
        }
    }

    /// Appends all that is committed by now, then what follows.
    async fn follow(
        &self,
        connection: &mut Connection<'_>,
        state: &mut State,
        backoff: &mut Backoff,
    ) -> Result<Infallible, CaptureError> {
        let (settings, metrics) = (&self.settings, &self.settings.metrics);
        self.remember_log(state, &connection.listener).await?;
        connection.catch_up(state, settings.history).await?;
        connection.publisher.sink.open().await?;
        metrics.listener_connected.set(1);
        metrics.bus.leading.set(1);
        settings.phase.send_replace(Phase::Live { since: Instant::now() });
        tracing::info!(claim = self.claim, "live: this capture node leads");
        backoff.reset();
        let probe =
            Probe::new(&connection.listener, &settings.queries, &settings.shutdown, metrics);
        let State::Running(running) = state else { return Err(CaptureError::Closed) };
        connection.live(running, probe, &self.suppression).await
    }

    /// Reads the log and claims behind its end.
    async fn claim(&mut self, listener: &Listener) -> Result<(LogWriter, State), Ended> {
        let settings = &mut self.settings;
        let takeover = Takeover::read(&settings.bus).await.map_err(bus_error)?;
        settings.watch.catch_up();
        let last = takeover.claim.as_ref().map_or(0, |(seq, _)| *seq);
        let is_own = takeover.claim.as_ref().is_some_and(|(_, it)| it.process == self.process);
        // Another node was faster, or claimed while this one was away. A later claim of its own says
        // that NATS lost messages, or was appended without an answer.
        if (!self.has_stood_by && !is_own && last > self.claim)
            || settings.watch.has_successor(last, self.claim)
        {
            settings.watch.restart();
            return Err(Ended::Deposed);
        }
        let former = takeover.claim.clone().and_then(|(_, claim)| claim.backend);
        let state = state_of(&takeover)?;
        let start = WriterStart {
            metrics: settings.metrics.clone(),
            state: settings.state.clone(),
            refresh_every: settings.log_age / 2,
            begin_bytes: settings.begin_bytes,
            claim: Claim {
                node: settings.node.clone(),
                backend: listener.backend.clone(),
                process: self.process,
                former: takeover.term,
            },
            greatest_end: settings.watch.greatest_end(),
        };
        let writer = LogWriter::claim(settings.bus.clone(), start, takeover).await;
        let writer = writer.map_err(CaptureError::Bus)?;
        (self.claim, self.has_stood_by) = (writer.term(), false);
        settings.watch.reset_end(writer.end());
        if let Some(former) = former.filter(|former| Some(former) != listener.backend.as_ref()) {
            listener.end_session(&former).await?;
        }
        Ok((writer, state))
    }

    /// On another timeline, rounds are compared by `finished_at` with those in the log.
    async fn remember_log(
        &self,
        state: &mut State,
        listener: &Listener,
    ) -> Result<(), CaptureError> {
        let State::Running(running) = state else { return Ok(()) };
        if running.is_of_another_database(listener) || running.continues_on(listener).await? {
            return Ok(());
        }
        let since = (running.last_contact - 2 * OVERLAP_MICROS) / 1_000_000;
        let rounds = Takeover::rounds_since(&self.settings.bus, since).await;
        let rounds = rounds.map_err(|error| CaptureError::Bus(error.into()))?;
        running.cursor.remember_older(rounds.iter().map(|captured| round_key(&captured.round)));
        Ok(())
    }
}

fn bus_error(error: BusError) -> CaptureError {
    CaptureError::Bus(error.into())
}

/// Where the log's next leader begins.
fn state_of(takeover: &Takeover) -> Result<State, CaptureError> {
    let Some(PositionMark { base, space, at, snapshot, .. }) = &takeover.mark else {
        return Ok(State::InitialLoad(None));
    };
    let mut cursor = Cursor::new(snapshot.parse::<Snapshot>()?);
    cursor.begins_at(Position(*base));
    for captured in &takeover.before {
        if let Some(row) = row(captured) {
            cursor.remember_durable(row, captured.round.finished_at);
        }
    }
    for captured in &takeover.after {
        match row(captured) {
            Some(row) => cursor.mark_published(row, captured.round.finished_at),
            None => cursor.mark_published_by_key(round_key(&captured.round)),
        }
    }
    let (identity, last_contact) = (Identity::of_space(space), *at);
    Ok(State::Running(Box::new(Running { cursor, identity, last_contact })))
}

fn row(captured: &Captured) -> Option<OutboxKey> {
    captured.at.map(|at| OutboxKey { finish: captured.finish(), at })
}
