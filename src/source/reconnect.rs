//! Connects to the database again whenever the connection ends.

use std::{convert::Infallible, time::Duration};

use tokio::sync::watch;

use super::error::CaptureError;
use crate::ops::{backoff::Backoff, phase::Phase, shutdown::Shutdown};

/// The longest delay while the database does not answer: rounds must flow 0.1 s after it is back,
/// however long it was away. Unanswered attempts cost the database nothing; an attempt while it starts
/// costs it a line in its log. A refusal costs it work, so it is followed by the full backoff.
const UNANSWERED_DELAY_MAX: Duration = Duration::from_millis(30);

/// A capture, which has one connection at a time.
pub(super) trait Reconnecting {
    /// Runs one connection, from its start to its end.
    async fn run_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError>;

    /// Whether the initial load is done: from then on every error leads to a new connection.
    fn is_loaded(&self) -> bool;

    /// The channel of its phase.
    fn phase(&self) -> &watch::Sender<Phase>;

    /// How long a live connection may take to end after the request to stop.
    fn leaves_within(&self) -> Duration {
        Duration::ZERO
    }
}

/// Runs one connection after another until the shutdown. An error is one that waiting cannot fix,
/// met before the initial load was done.
pub(super) async fn run_connections(
    capture: &mut impl Reconnecting,
    shutdown: &Shutdown,
) -> Result<(), CaptureError> {
    let mut backoff = Backoff::default();
    loop {
        let stopped = stopped(shutdown, capture.leaves_within(), capture.phase().subscribe());
        let ended = tokio::select! {
            () = stopped => return Ok(()),
            ended = capture.run_connection(&mut backoff) => ended,
        };
        let Err(error) = ended;
        if shutdown.is_requested() {
            return Ok(());
        }
        if error.is_final() && !capture.is_loaded() {
            return Err(error);
        }
        if Phase::publish_problem(capture.phase(), &error) {
            tracing::warn!(%error, "not connected to the database; trying again");
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(delay(&error, &mut backoff)) => {}
        }
    }
}

/// Waits until a connection must have ended.
async fn stopped(shutdown: &Shutdown, leaves_within: Duration, phase: watch::Receiver<Phase>) {
    shutdown.requested().await;
    if matches!(*phase.borrow(), Phase::Live { .. }) {
        tokio::time::sleep(leaves_within).await;
    }
}

/// The time until the next attempt.
pub(super) fn delay(error: &CaptureError, backoff: &mut Backoff) -> Duration {
    if error.is_refusal() { backoff.delay() } else { backoff.delay_up_to(UNANSWERED_DELAY_MAX) }
}
