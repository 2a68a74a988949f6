//! Whether the LISTEN connection hears anything: behind a pooler that shares server connections
//! (PgBouncer in transaction mode) LISTEN succeeds and nothing is ever delivered.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::task::AbortHandle;

use super::{
    CaptureError, Parts,
    company::Word,
    inbox::Inbox,
    listener::{Listening, notify, within},
};
use crate::{
    ops::{backoff::Backoff, telemetry::metrics::Metrics},
    postgres::{client, target::PgTarget},
};

/// A notification arrives within a millisecond of its commit.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// A connection and one statement.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// One notification sent from another connection, to be heard on this one.
#[derive(Debug)]
pub(super) struct Probe {
    /// When the database acknowledged it: from then on it should be heard.
    sent: Arc<OnceLock<Instant>>,
    sending: AbortHandle,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not sent, or not heard yet.
    Waiting,
    /// Notifications arrive.
    Hearing,
    /// They do not; rounds are found by polling.
    Deaf,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

impl Probe {
    pub(super) fn start(parts: &Parts, listening: &Listening) -> Self {
        let word = listening.inbox().expect_probe(fastrand::u64(1..));
        let sent = Arc::new(OnceLock::new());
        let sending = send(parts.queries.clone(), word, Arc::clone(&sent));
        let sending = parts.shutdown.spawn(sending).abort_handle();
        parts.metrics.listener_deaf.set(0);
        Self { sent, sending, state: State::Waiting }
    }

    /// Looks whether the probe has arrived, and says so when it should have.
    pub(super) fn check(&mut self, inbox: &Inbox, metrics: &Metrics) -> State {
        let waited = self.sent.get().map(Instant::elapsed);
        let next = self.state.after(inbox.heard_probe(), waited);
        if next != self.state {
            metrics.listener_deaf.set(i64::from(next == State::Deaf));
            next.report();
            self.state = next;
        }
        next
    }
}

impl State {
    /// `waited`: since the probe was sent, if it was.
    fn after(self, heard: bool, waited: Option<Duration>) -> Self {
        match self {
            _ if heard => Self::Hearing,
            Self::Waiting if waited.is_some_and(|waited| waited > HEARD_WITHIN) => Self::Deaf,
            state => state,
        }
    }

    fn report(self) {
        match self {
            Self::Waiting => {}
            Self::Hearing => tracing::debug!("the LISTEN connection hears"),
            Self::Deaf => tracing::error!(
                "the LISTEN connection hears nothing (a pooler in transaction mode?): set \
                 DATASTREAM_LISTEN_URL to the database itself; polling every 20 ms until then"
            ),
        }
    }
}

/// Sends the probe. While that fails nothing is known of how the other connection hears.
async fn send(target: PgTarget, word: Word, sent: Arc<OnceLock<Instant>>) {
    let mut backoff = Backoff::default();
    let mut failed = false;
    while let Err(error) = within(SENT_WITHIN, try_send(&target, word)).await {
        if !std::mem::replace(&mut failed, true) {
            tracing::warn!(
                %error,
                "not known whether the LISTEN connection hears: the probe was not sent; trying again"
            );
        }
        tokio::time::sleep(backoff.delay()).await;
    }
    let _ = sent.set(Instant::now());
}

async fn try_send(target: &PgTarget, word: Word) -> Result<(), CaptureError> {
    let mut link = client::connect_to_send(target, "query").await?;
    let text = notify(word);
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
    fn what_was_not_sent_is_not_missed() {
        assert_eq!(State::Waiting.after(false, None), State::Waiting);
        assert_eq!(State::Waiting.after(false, Some(Duration::ZERO)), State::Waiting);
        assert_eq!(State::Waiting.after(false, LATE), State::Deaf);
    }

    #[test]
    fn a_probe_that_is_heard_after_all_ends_the_deafness() {
        let deaf = State::Waiting.after(false, LATE);
        assert_eq!(deaf.after(false, LATE), State::Deaf);
        assert_eq!(deaf.after(true, LATE), State::Hearing);
        assert_eq!(State::Hearing.after(false, LATE), State::Hearing);
    }
}
