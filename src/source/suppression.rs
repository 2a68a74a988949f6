//! Suppresses notifications while rounds come faster than they help.
//!
//! In capture mode `auto` a writer notifies only if it gets the advisory lock `(7264, 1)`. Under
//! load the server itself holds that lock: writers then skip NOTIFY without any further check. It
//! holds it in a transaction on a connection of its own, so that it ends with the connection, and
//! renews it each second: if this process is paused, PostgreSQL ends the transaction after 3 s.

use std::{convert::Infallible, time::Duration};

use futures_util::StreamExt;
use tokio::{sync::watch, time::sleep};

use super::error::CaptureError;
use crate::{
    ops::telemetry::metrics::Metrics,
    postgres::{client, session_settings::NO_LATER_TIMEOUTS, target::PgTarget},
};

/// The transaction holds no snapshot between its statements, so it does not hold back VACUUM.
const SETTINGS: [(&str, &str); 0] = [];
/// Everything is of the transaction: a pooler drops the settings of a session.
const LOCK: &str = "begin isolation level read committed; \
    set local idle_in_transaction_session_timeout = '3s'; set local lock_timeout = '2s'; \
    select pg_advisory_xact_lock(7264, 1)";
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Without a connection nothing is suppressed; a server that refuses is not asked often.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Turns suppression on and off.
#[derive(Debug)]
pub(super) struct Suppression(watch::Sender<bool>);

impl Suppression {
    /// The handle, and the task that holds the lock.
    pub(super) fn new(
        target: PgTarget,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (wanted, watched) = watch::channel(false);
        (Self(wanted), run(target, metrics, watched))
    }

    /// Wants notifications suppressed or not.
    pub(super) fn set(&self, wanted: bool) {
        self.0.send_if_modified(|current| std::mem::replace(current, wanted) != wanted);
    }
}

async fn run(target: PgTarget, metrics: Metrics, mut wanted: watch::Receiver<bool>) {
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let ended = tokio::select! {
            Err(error) = hold(&target, &metrics) => Some(error),
            _ = wanted.wait_for(|wanted| !*wanted) => None,
        };
        metrics.notifications_suppressed.set(0);
        if let Some(error) = ended {
            tracing::debug!(%error, "notifications are not suppressed");
            sleep(RETRY_AFTER).await;
        }
    }
}

/// Holds the lock until the connection ends.
async fn hold(target: &PgTarget, metrics: &Metrics) -> Result<Infallible, CaptureError> {
    let mut link = client::connect(target, "suppress", &SETTINGS).await?;
    let renew = async {
        link.client.batch_execute(NO_LATER_TIMEOUTS).await?;
        link.client.batch_execute(LOCK).await?;
        metrics.notifications_suppressed.set(1);
        loop {
            sleep(RENEW_EVERY).await;
            link.client.batch_execute("select").await?;
        }
    };
    tokio::select! {
        ended = renew => ended,
        () = async { while link.messages.next().await.is_some() {} } => Err(CaptureError::Closed),
    }
}
