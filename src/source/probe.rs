//! Whether notifications arrive: behind a pooler that shares server connections (PgBouncer in
//! transaction mode) LISTEN succeeds and nothing is ever delivered.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::task::AbortHandle;

use super::{
    error::CaptureError,
    listener::{Listener, Modes},
    session::within,
    wake_ups::{PROBE_CHANNEL, PROBES},
};
use crate::{
    ops::{backoff::Backoff, shutdown::Shutdown, telemetry::metrics::Metrics},
    postgres::{client, target::PgTarget},
};

/// A notification arrives within a millisecond of its commit.
const ARRIVES_WITHIN: Duration = Duration::from_secs(3);
/// A connection and one statement.
const SENT_WITHIN: Duration = Duration::from_secs(10);
/// Between two probes: a listener that polls every 20 ms has moved on.
const BETWEEN: Duration = Duration::from_millis(100);
/// How soon another capture mode is noticed: one query of 0.1 ms.
const MODES_EVERY: Duration = Duration::from_secs(5);

/// Follows the capture modes, and makes sure that notifications arrive where tables send them.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    queries: &'a PgTarget,
    shutdown: &'a Shutdown,
    metrics: &'a Metrics,
    modes: Modes,
    modes_read: Instant,
    sent: Option<SentProbes>,
}

impl<'a> Probe<'a> {
    /// Sends probes if any table notifies.
    pub(super) fn new(
        listener: &Listener,
        queries: &'a PgTarget,
        shutdown: &'a Shutdown,
        metrics: &'a Metrics,
    ) -> Self {
        let (modes, modes_read) = (listener.modes, Instant::now());
        let mut probe = Self { queries, shutdown, metrics, modes, modes_read, sent: None };
        probe.restart(listener);
        probe
    }

    /// The capture modes of the attached tables.
    pub(super) fn modes(&self) -> Modes {
        self.modes
    }

    /// Whether tables notify, and nothing shows that notifications do not arrive.
    pub(super) async fn check(&mut self, listener: &Listener) -> Result<bool, CaptureError> {
        if self.modes_read.elapsed() > MODES_EVERY {
            self.follow_modes(listener).await?;
        }
        let arrived = listener.wake_ups().probes_arrived();
        let Some(sent) = &mut self.sent else { return Ok(false) };
        Ok(sent.check(arrived, self.metrics) != Delivery::Missing)
    }

    async fn follow_modes(&mut self, listener: &Listener) -> Result<(), CaptureError> {
        let modes = listener.read_modes().await?;
        self.modes_read = Instant::now();
        if modes.notifies() != self.modes.notifies() {
            tracing::info!(notifies = modes.notifies(), "another capture mode was chosen");
            self.modes = modes;
            self.restart(listener);
        }
        self.modes = modes;
        Ok(())
    }

    fn restart(&mut self, listener: &Listener) {
        self.metrics.listener_deaf.set(0);
        let notifies = self.modes.notifies();
        self.sent = notifies.then(|| SentProbes::send(listener, self.queries, self.shutdown));
    }
}

/// A few notifications, each sent from another connection.
#[derive(Debug)]
struct SentProbes {
    /// When the database acknowledged the last: from then on all should arrive.
    acknowledged: Arc<OnceLock<Instant>>,
    sending: AbortHandle,
    delivery: Delivery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Not sent, or not arrived yet.
    Waiting,
    /// Notifications arrive.
    Arrives,
    /// They do not; rounds are found by polling.
    Missing,
}

impl Drop for SentProbes {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

impl SentProbes {
    fn send(listener: &Listener, queries: &PgTarget, shutdown: &Shutdown) -> Self {
        let first = fastrand::u64(1..u64::MAX - u64::from(PROBES));
        listener.wake_ups().expect_probes(first);
        let acknowledged = Arc::new(OnceLock::new());
        let sending = send(queries.clone(), first, Arc::clone(&acknowledged));
        let sending = shutdown.spawn(sending).abort_handle();
        Self { acknowledged, sending, delivery: Delivery::Waiting }
    }

    /// Checks whether the probes have arrived, and reports a change.
    fn check(&mut self, arrived: bool, metrics: &Metrics) -> Delivery {
        let waited = self.acknowledged.get().map(Instant::elapsed);
        let next = self.delivery.after(arrived, waited);
        if next != self.delivery {
            metrics.listener_deaf.set(i64::from(next == Delivery::Missing));
            next.report();
            self.delivery = next;
        }
        next
    }
}

impl Delivery {
    /// `waited`: since the last probe was sent, if it was.
    fn after(self, arrived: bool, waited: Option<Duration>) -> Self {
        match self {
            _ if arrived => Self::Arrives,
            Self::Waiting if waited.is_some_and(|waited| waited > ARRIVES_WITHIN) => Self::Missing,
            delivery => delivery,
        }
    }

    fn report(self) {
        match self {
            Self::Waiting => {}
            Self::Arrives => tracing::debug!("notifications arrive"),
            Self::Missing => tracing::error!(
                "no notification arrives on the LISTEN connection (a pooler in transaction mode?): \
                 polling every 20 ms. Set DATASTREAM_LISTEN_URL to the database itself."
            ),
        }
    }
}

/// Sends the probes. While that fails, nothing is known of the other connection.
async fn send(target: PgTarget, first: u64, acknowledged: Arc<OnceLock<Instant>>) {
    let (mut backoff, mut failed, mut next) = (Backoff::default(), false, 0);
    while next < PROBES {
        match within(SENT_WITHIN, try_send(&target, first + u64::from(next))).await {
            Ok(()) => next += 1,
            Err(error) => {
                warn_once(&error, &mut failed);
                tokio::time::sleep(backoff.delay()).await;
            }
        }
        tokio::time::sleep(BETWEEN).await;
    }
    let _ = acknowledged.set(Instant::now());
}

fn warn_once(error: &CaptureError, warned: &mut bool) {
    if !std::mem::replace(warned, true) {
        tracing::warn!(
            %error,
            "cannot send a probe, so it is unknown whether notifications arrive: retrying"
        );
    }
}

async fn try_send(target: &PgTarget, number: u64) -> Result<(), CaptureError> {
    let mut link = client::connect_to_send(target, "query").await?;
    let text = format!("notify {PROBE_CHANNEL}, '{number}'");
    tokio::select! {
        sent = link.client.batch_execute(&text) => Ok(sent?),
        () = async { while link.messages.next().await.is_some() {} } => Err(CaptureError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Option<Duration> = Some(Duration::from_secs(4));

    #[test]
    fn a_probe_that_was_not_sent_is_not_missing() {
        assert_eq!(Delivery::Waiting.after(false, None), Delivery::Waiting);
        assert_eq!(Delivery::Waiting.after(false, Some(Duration::ZERO)), Delivery::Waiting);
        assert_eq!(Delivery::Waiting.after(false, LATE), Delivery::Missing);
    }

    #[test]
    fn a_probe_that_arrives_late_ends_the_polling() {
        let missing = Delivery::Waiting.after(false, LATE);
        assert_eq!(missing.after(false, LATE), Delivery::Missing);
        assert_eq!(missing.after(true, LATE), Delivery::Arrives);
        assert_eq!(Delivery::Arrives.after(false, LATE), Delivery::Arrives);
    }
}
