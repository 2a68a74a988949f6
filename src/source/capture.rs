//! The one task that publishes rounds.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    connection::{Connection, State},
    connection_limits,
    error::CaptureError,
    exact_claim::ClaimKind,
    exact_server::ServerName,
    listener::Listener,
    probe::Probe,
    publisher::RoundPublisher,
    reconnect::{Reconnecting, run_connections},
    suppression::Suppression,
};
use crate::{
    ops::{backoff::Backoff, phase::Phase, shutdown::Shutdown, telemetry::metrics::Metrics},
    postgres::target::PgTarget,
    stream::{
        bus::Backend, games::Games, hub::Publisher, sink::Sink, skipped_rounds::SkippedRounds,
    },
};

/// One small statement. If the database does not answer it, another server waits for the lease.
const LEAVES_WITHIN: Duration = Duration::from_millis(500);

/// What a capture works with.
#[derive(Debug)]
pub struct CaptureSettings {
    /// The database to listen to.
    pub listen: PgTarget,
    /// The database for queries; the probe is sent from there.
    pub queries: PgTarget,
    /// Recent rounds of each game for the initial load.
    pub history: i64,
    /// Where rounds go.
    pub publisher: Publisher,
    /// The directory of games, kept up to date.
    pub games: Games,
    /// Where to count.
    pub metrics: Metrics,
    /// Counts rounds that cannot be sent.
    pub skipped: SkippedRounds,
    /// Ends the capture.
    pub shutdown: Shutdown,
}

/// Publishes rounds, over one connection after another.
#[derive(Debug)]
pub struct Capture {
    listen: PgTarget,
    queries: PgTarget,
    history: i64,
    shutdown: Shutdown,
    publisher: RoundPublisher,
    phase: watch::Sender<Phase>,
    state: State,
    server: ServerName,
    /// The last connection's: it may still hold locks.
    former: Option<Backend>,
    suppression: Suppression,
}

impl Capture {
    /// Makes a capture, and the channel that tells its phase.
    pub fn new(settings: CaptureSettings) -> (Self, watch::Receiver<Phase>) {
        let CaptureSettings {
            listen,
            queries,
            history,
            publisher,
            games,
            metrics,
            skipped,
            shutdown,
        } = settings;
        let (phase, watched) = watch::channel(Phase::Connecting { problem: None });
        let (suppression, suppressing) = Suppression::new(listen.clone(), metrics.clone());
        shutdown.spawn_until_requested(suppressing);
        let publisher = RoundPublisher::new(Sink::Hub(publisher), games, metrics, skipped);
        let (state, server) = (State::InitialLoad(None), ServerName::of_this_process());
        let capture = Self {
            listen,
            queries,
            history,
            shutdown,
            publisher,
            phase,
            state,
            server,
            former: None,
            suppression,
        };
        (capture, watched)
    }

    /// Captures until the shutdown. An error is one that waiting cannot fix, met before the stream
    /// was live.
    pub async fn run(mut self) -> Result<(), CaptureError> {
        let shutdown = self.shutdown.clone();
        run_connections(&mut self, &shutdown).await
    }

    /// From LISTEN to the end of the connection.
    async fn listen(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let (listener, claim) = Listener::start(
            &self.listen,
            (&self.server, ClaimKind::Server),
            self.former.as_ref(),
            &self.shutdown,
        )
        .await?;
        let listener = listener.counting(self.publisher.skipped.clone());
        self.former = listener.backend.clone();
        let metrics = self.publisher.metrics.clone();
        metrics.listener_connects_total.inc();
        self.phase.send_replace(Phase::CatchingUp);
        if !self.is_loaded() {
            connection_limits::warn(listener.session()).await?;
            self.publisher.skipped.name_tables(listener.queries().tables().await?);
        }
        let mut connection = Connection { listener, claim, publisher: &mut self.publisher };
        connection.catch_up(&mut self.state, self.history).await?;
        connection.publisher.sink.open().await?;
        metrics.listener_connected.set(1);
        self.phase.send_replace(Phase::Live { since: Instant::now() });
        let timeline = connection.listener.identity.timeline();
        tracing::info!(timeline, "live: caught up with the database");
        backoff.reset();
        let probe = Probe::new(&connection.listener, &self.queries, &self.shutdown, &metrics);
        let State::Running(running) = &mut self.state else { return Err(CaptureError::Closed) };
        tokio::select! {
            ended = connection.live(running, probe, &self.suppression) => return ended,
            () = self.shutdown.requested() => {}
        }
        connection.leave().await;
        Err(CaptureError::Closed)
    }
}

impl Reconnecting for Capture {
    async fn run_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let ended = self.listen(backoff).await;
        self.publisher.metrics.listener_connected.set(0);
        self.suppression.set(false);
        ended
    }

    fn is_loaded(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    fn phase(&self) -> &watch::Sender<Phase> {
        &self.phase
    }

    fn leaves_within(&self) -> Duration {
        LEAVES_WITHIN
    }
}
