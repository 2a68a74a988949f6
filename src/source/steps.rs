//! What the capture does with a connection that is live: hear, poll, publish.

use std::time::Instant;

use super::{
    Capture, CaptureError, Progress, Trust,
    cursor::{Given, Verdict},
    listener::Listening,
    payload::{Notification, Payload},
    poll::Poll,
    rows::OutboxRow,
    snapshot::Snapshot,
};
use crate::{
    ops::telemetry::metrics::{BySource, Source},
    stream::{
        hub::{Captured, OVERTAKEN_WITHIN, Settled},
        transaction::Finish,
    },
};

/// Rounds read and published at once: 1,000 take 3.4 ms to read.
const READ_AT_ONCE: usize = 1_000;

impl Capture {
    /// Deals with the notifications that have arrived: what may go out at once does, up to the
    /// first that may not. The poll that follows brings the others.
    pub(super) fn hear(&mut self, listening: &Listening) {
        let waiting = listening.inbox().take();
        self.parts.metrics.notifications_total.inc_by(waiting.count);
        let mut in_order =
            self.parts.trust == Trust::Payloads && self.looked.elapsed() < OVERTAKEN_WITHIN / 2;
        let decoded = waiting.payloads.iter().map(|text| Notification::decode(text));
        let mut decoded = decoded.peekable();
        while let Some(notification) = decoded.next() {
            match notification {
                Notification::Round(payload) => {
                    // Rounds of one transaction come by id, whatever the order of its statements.
                    let alone = !decoded.peek().is_some_and(|next| next.may_be_of(payload.xid));
                    in_order = self.offer(*payload, in_order && alone);
                }
                Notification::Ring => in_order = false,
                Notification::Invalid => {
                    self.parts.metrics.notifications_invalid_total.inc();
                    tracing::warn!("a notification on datastream_rounds is not of the trigger");
                }
            }
        }
    }

    /// Publishes a payload if order allows; says whether the next one may go out as well. One that
    /// may not is left to the poll, which finds its round, or finds it out.
    fn offer(&mut self, payload: Payload, in_order: bool) -> bool {
        let Some(progress) = &mut self.progress else { return false };
        let game = self.parts.games.by_id(payload.game_id);
        match (progress.cursor.judge(&payload), game) {
            (Verdict::Known, _) => in_order,
            (Verdict::Now, Some(game)) if in_order => {
                progress.cursor.delivered_by_payload(&payload, Instant::now());
                self.publish(vec![payload.into_captured(&game)], Source::payload);
                true
            }
            (Verdict::Now | Verdict::PollFirst, _) => {
                progress.cursor.claimed(&payload, Instant::now());
                false
            }
        }
    }

    /// Asks for what has been committed since the last poll.
    pub(super) async fn poll(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let poll = listening.poll(&self.saved()?).await?;
        self.parts.metrics.polls_total.inc();
        let given = Given::default();
        if poll.is_full() {
            return self.take_pages(listening, &given, Source::poll).await.map(drop);
        }
        self.take(listening, &poll.rows, &given, Source::poll).await?;
        self.advance(poll)
    }

    /// Publishes what a poll or a page found, but for what is on the stream. Returns how many of the
    /// `given` rounds it met.
    pub(super) async fn take(
        &mut self,
        listening: &Listening,
        found: &[OutboxRow],
        given: &Given,
        source: Source,
    ) -> Result<usize, CaptureError> {
        self.observe_payloads(found);
        self.has_read_games = false;
        let cursor = &self.progress()?.cursor;
        let unknown = found.iter().filter(|row| !cursor.knows(row.finish())).copied();
        // A link that breaks again and again still gets on: what is given is not read again.
        let (old, new): (Vec<_>, Vec<_>) = unknown.partition(|row| given.has(row.recorded));
        let mut met = old.len();
        for rows in new.chunks(READ_AT_ONCE) {
            met += self.read_and_publish(listening, rows, given, source).await?;
        }
        self.progress()?.cursor.confirm(found.iter().map(|row| row.recorded));
        Ok(met)
    }

    /// How long rounds took from their commit to us, known once the outbox tells their age.
    fn observe_payloads(&self, rows: &[OutboxRow]) {
        let Some(progress) = &self.progress else { return };
        for row in rows {
            if let Some(at) = progress.cursor.payload_time(row.finish()) {
                let age = row.age.saturating_sub(at.elapsed());
                self.parts.metrics.commit_to_decode_seconds.observe(age.as_secs_f64());
            }
        }
    }

    /// Notes that all of a poll, or of the last page, is on the stream.
    pub(super) fn advance(&mut self, poll: Poll) -> Result<(), CaptureError> {
        self.looked = poll.begun;
        self.parts.publisher.looked(poll.begun);
        let position = self.parts.publisher.position();
        let progress = self.progress()?;
        progress.last_contact = poll.at;
        let unconfirmed = progress.cursor.advance(poll.seen, position, Instant::now());
        self.settle()?;
        if !unconfirmed.is_empty() {
            self.distrust(&unconfirmed);
            self.forged.extend(unconfirmed);
        }
        Ok(())
    }

    /// Makes the hub forget rounds that were none: new connections would be seeded with them. What
    /// it gets in their place is on the stream: read first, and polled for afterwards.
    pub(super) async fn take_back_forged(
        &mut self,
        listening: &Listening,
    ) -> Result<(), CaptureError> {
        if self.forged.is_empty() {
            return Ok(());
        }
        let latest = listening.latest().await?;
        self.poll(listening).await?;
        self.parts.publisher.retract(&std::mem::take(&mut self.forged), latest);
        Ok(())
    }

    /// Tells the hub up to where the database may be asked for what is on the stream.
    pub(super) fn settle(&mut self) -> Result<(), CaptureError> {
        let cursor = &self.progress()?.cursor;
        let (safe, position) = (cursor.safe(), cursor.safe_position());
        let (oldest_running, snapshot) = (safe.xmin(), safe.to_string().into());
        self.parts.publisher.settle(Settled { oldest_running, snapshot, position });
        Ok(())
    }

    fn distrust(&mut self, unconfirmed: &[Finish]) {
        self.parts.metrics.payloads_unconfirmed_total.inc_by(unconfirmed.len() as u64);
        self.parts.trust = Trust::Outbox;
        for (_, round) in unconfirmed {
            tracing::error!(
                round.id = round.0,
                "a payload came that the outbox does not know: somebody else sends on \
                 datastream_rounds; from now on every round is read from the outbox first"
            );
        }
    }

    /// The progress that `fill` began; without it the connection has nothing to go on from.
    pub(super) fn progress(&mut self) -> Result<&mut Progress, CaptureError> {
        self.progress.as_mut().ok_or(CaptureError::Closed)
    }

    pub(super) fn saved(&mut self) -> Result<Snapshot, CaptureError> {
        Ok(self.progress()?.cursor.saved().clone())
    }

    pub(super) fn publish(&mut self, rounds: Vec<Captured>, source: Source) {
        if rounds.is_empty() {
            return;
        }
        self.last_activity = Instant::now();
        let label = BySource { source };
        self.parts.metrics.rounds_captured_total.get_or_create(&label).inc_by(rounds.len() as u64);
        self.parts.publisher.publish(rounds);
    }
}
