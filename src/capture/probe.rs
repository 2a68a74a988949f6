//! Whether the LISTEN connection hears anything: behind a pooler that shares server connections
//! (PgBouncer in transaction mode) LISTEN succeeds and nothing is ever delivered.

use std::time::{Duration, Instant};

use super::{
    Parts, connect,
    inbox::Inbox,
    listener::{Listening, PROBE_CHANNEL},
};
use crate::{pg_target::PgTarget, telemetry::metrics::Metrics};

/// A notification arrives within a millisecond of its commit.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// One notification sent from another connection, to be heard on this one.
#[derive(Debug)]
pub(super) struct Probe {
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Sent, not heard yet.
    Waiting,
    /// Notifications arrive.
    Hearing,
    /// They do not; rounds are found by polling.
    Deaf,
}

impl Probe {
    pub(super) fn start(parts: &Parts, listening: &Listening) -> Self {
        let number = fastrand::u64(1..);
        listening.inbox().expect_probe(number);
        parts.shutdown.spawn(send(parts.queries.clone(), number));
        parts.metrics.listener_deaf.set(0);
        Self { since: Instant::now(), state: State::Waiting }
    }

    /// Looks whether the probe has arrived, and says so when it should have.
    pub(super) fn check(&mut self, inbox: &Inbox, metrics: &Metrics) -> State {
        if self.state == State::Waiting && inbox.heard_probe() {
            self.state = State::Hearing;
        } else if self.state == State::Waiting && self.since.elapsed() > HEARD_WITHIN {
            self.state = State::Deaf;
            metrics.listener_deaf.set(1);
            tracing::error!(
                "the LISTEN connection hears nothing (a pooler in transaction mode?): set \
                 DATASTREAM_LISTEN_URL to the database itself; polling every 20 ms until then"
            );
        }
        self.state
    }
}

/// Sends the probe; failing here means no more than that nothing is learnt.
async fn send(target: PgTarget, number: u64) {
    if let Err(error) = try_send(&target, number).await {
        tracing::debug!(%error, "the probe was not sent");
    }
}

async fn try_send(target: &PgTarget, number: u64) -> Result<(), super::CaptureError> {
    use futures_util::StreamExt;
    let mut link = connect::connect_to_send(target, "query").await?;
    let text = format!("notify {PROBE_CHANNEL}, '{number}'");
    tokio::select! {
        sent = link.client.batch_execute(&text) => sent?,
        () = async { while link.messages.next().await.is_some() {} } => {}
    }
    Ok(())
}
