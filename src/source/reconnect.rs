//! A link to the database that is made anew whenever it ends.

use std::{convert::Infallible, time::Duration};

use tokio::sync::watch;

use super::CaptureError;
use crate::ops::{backoff::Backoff, phase::Phase, shutdown::Shutdown};

/// However long the database was away: the stream is to be live 0.5 s after it is back. An attempt
/// that nobody answers costs nobody anything; one that is refused does, and gets the whole delay.
const UNANSWERED_AT_LEAST_EVERY: Duration = Duration::from_millis(100);

/// What has such a link.
pub(super) trait Reconnecting {
    /// One connection, from its start to its end.
    async fn run_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError>;

    /// Whether the stream was ever live: from then on every error is waited out.
    fn is_loaded(&self) -> bool;

    /// Where it says how it stands.
    fn phase(&self) -> &watch::Sender<Phase>;
}

/// Links again and again until the shutdown; an error is one that waiting cannot mend, met before
/// the stream was ever live.
pub(super) async fn run_connections(
    capture: &mut impl Reconnecting,
    shutdown: &Shutdown,
) -> Result<(), CaptureError> {
    let mut backoff = Backoff::default();
    loop {
        let ended = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            ended = capture.run_connection(&mut backoff) => ended,
        };
        let Err(error) = ended;
        if error.is_final() && !capture.is_loaded() {
            return Err(error);
        }
        report(capture.phase(), &error);
        let delay = if error.is_refusal() {
            backoff.delay()
        } else {
            backoff.delay_up_to(UNANSWERED_AT_LEAST_EVERY)
        };
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// Logged once, however often it is met again.
fn report(phase: &watch::Sender<Phase>, error: &CaptureError) {
    let problem = Some(error.to_string());
    let repeated =
        matches!(&*phase.borrow(), Phase::Connecting { problem: last } if *last == problem);
    if !repeated {
        tracing::warn!(%error, "not connected to the database; trying again");
    }
    phase.send_replace(Phase::Connecting { problem });
}
