//! What the capture does with a connection: fill the memory, catch up, hear, poll.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    Capture, CaptureError, POLL_ACTIVE, Progress, Trust,
    cursor::{Cursor, Given, Moment, Seen, Verdict},
    listener::{Listening, Poll},
    payload::{Notification, Payload},
    rows::OutboxRow,
    snapshot::Snapshot,
};
use crate::{
    hub::{Captured, Finish, OVERTAKEN_WITHIN, Settled, Xid},
    round::{Round, RoundId},
    telemetry::metrics::{BySource, Source},
};

/// Rounds read and published at once: 1,000 take 3.4 ms to read.
const READ_AT_ONCE: usize = 1_000;
/// How far back a database with another history is searched for rounds not streamed yet. As much
/// as reconciliation looks back.
const OVERLAP_MICROS: i64 = 10 * 60 * 1_000_000;
/// A commit without a wait is flushed within three times `wal_writer_delay`, 0.6 s (PostgreSQL,
/// "Asynchronous Commit"). Where that was raised, a stream that begins is worth more than the rest.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

impl Capture {
    /// Brings the stream up to what is committed by now.
    pub(super) async fn catch_up(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        self.parts.games.replace(listening.games().await?);
        match &self.progress {
            None => self.fill(listening).await?,
            Some(progress) if self.continues(progress, listening).await? => {
                self.resume(listening).await?;
            }
            Some(_) => self.start_over(listening).await?,
        }
        self.parts.publisher.open();
        Ok(())
    }

    /// Whether the outbox still tells all that happened since the last connection: it is of the
    /// same history, not a copy from before what was seen of it, and retention has not trimmed what
    /// was not seen yet.
    async fn continues(
        &self,
        progress: &Progress,
        listening: &Listening,
    ) -> Result<bool, CaptureError> {
        let safe = progress.cursor.safe();
        let is_whole = progress.identity == listening.identity
            && !listening.snapshot().await?.is_before(safe)
            && listening.trimmed().await? < safe.xmin();
        // An older copy may have begun as many transactions again.
        Ok(is_whole
            && match progress.cursor.landmark() {
                Some(row) if listening.trimmed().await? < row.finish.0 => {
                    listening.has(row).await?
                }
                _ => true,
            })
    }

    /// First connection: fills the hub's memory.
    async fn fill(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let start = listening.poll(&listening.snapshot().await?).await?.seen;
        let (recent, floor) = listening.recent(&start.snapshot, self.parts.history).await?;
        let trimmed = listening.trimmed().await?.max(floor);
        let latest = listening.latest().await?;
        let last_contact = listening.now().await?;
        let mut cursor = Cursor::new(start.snapshot.clone());
        let lately = listening.moments_since(last_contact - OVERLAP_MICROS).await?;
        cursor.remember_older(lately);
        cursor.remember_older(recent.iter().map(|captured| moment(&captured.round)));
        Self::flushed(listening, &start).await?;
        tracing::info!(rounds = recent.len(), games = latest.len(), "memory filled");
        self.parts.publisher.preload(recent, latest, trimmed);
        let identity = listening.identity.clone();
        self.progress = Some(Progress { cursor, identity, last_contact });
        self.begin()?;
        // What the latest rounds were read with is newer than `start`: this poll passes it.
        let poll = listening.catch_up(&self.saved()?).await?;
        self.take(listening, poll, &Given::default(), Source::catch_up).await.map(drop)
    }

    /// Waits until a crash takes nothing back of what a snapshot sees: the next connection may have
    /// to begin there (C4).
    async fn flushed(listening: &Listening, seen: &Seen) -> Result<(), CaptureError> {
        let begun = Instant::now();
        while listening.flushed().await? < seen.inserted && begun.elapsed() < FLUSHED_WITHIN {
            tokio::time::sleep(POLL_ACTIVE).await;
        }
        Ok(())
    }

    /// Another connection to the same database: polls from the last flushed snapshot.
    async fn resume(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        let given = self.progress()?.cursor.rewind();
        let poll = listening.catch_up(&self.saved()?).await?;
        let found_again = self.take(listening, poll, &given, Source::catch_up).await?;
        if found_again < given.len() {
            self.report_lost(given.len() - found_again);
        }
        Ok(())
    }

    fn report_lost(&self, rounds: usize) {
        self.parts.metrics.rounds_lost_by_database_total.inc();
        tracing::error!(
            rounds,
            "the database came back without its last commits (synchronous_commit = off? a standby \
             that lagged?): rounds that were streamed are not in it"
        );
    }

    /// A database with another history (failover, restore), where transaction ids say nothing, or
    /// an outbox that has been trimmed: what finished lately is compared with what was streamed.
    async fn start_over(&mut self, listening: &Listening) -> Result<(), CaptureError> {
        tracing::warn!(
            was = ?self.progress()?.identity, now = ?listening.identity,
            "the database has another history, is an older copy of itself, or was away for longer \
             than the outbox is kept: catching up by finished_at"
        );
        let start = listening.poll(&listening.snapshot().await?).await?.seen;
        let since = self.progress()?.last_contact - OVERLAP_MICROS;
        let rounds = listening.finished_since(since).await?;
        let missing = self.missing(listening, since, &rounds).await?;
        Self::flushed(listening, &start).await?;
        let given = self.progress()?.cursor.start_over(start.snapshot);
        let new = rounds.into_iter().filter(|round| !given.contains(&moment(round)));
        // No transaction of this history finished them for us; they are told by position.
        let captured = |round| Captured { round, xid: Xid(0), before: Xid(0), recorded: None };
        let new: Vec<_> = new.map(captured).collect();
        let streamed = new.iter().map(|captured| moment(&captured.round)).collect();
        let cursor = &mut self.progress()?.cursor;
        new.iter().for_each(|captured| cursor.remember(moment(&captured.round)));
        self.publish(new, Source::catch_up);
        self.begin()?;
        let poll = listening.catch_up(&self.saved()?).await?;
        self.take(listening, poll, &Given::by_moment(streamed), Source::catch_up).await?;
        self.progress()?.identity = listening.identity.clone();
        if missing > 0 {
            self.report_lost(missing);
        }
        Ok(())
    }

    /// How many rounds that were streamed lately this history does not know: they are not there,
    /// and its outbox has not recorded them by then, so that nobody has deleted or changed them. An
    /// outbox that has been trimmed since tells nothing.
    async fn missing(
        &self,
        listening: &Listening,
        since: i64,
        found: &[Round],
    ) -> Result<usize, CaptureError> {
        let Some(progress) = &self.progress else { return Ok(0) };
        let found: HashSet<Moment> = found.iter().map(moment).collect();
        let missing = progress.cursor.lately().filter(|given| !found.contains(given));
        let missing = missing.filter(|(_, at)| at.micros() >= since).map(|(id, _)| id);
        let missing: Vec<RoundId> = missing.collect::<HashSet<_>>().into_iter().collect();
        if missing.is_empty() || listening.trimmed().await? >= progress.cursor.safe().xmin() {
            return Ok(0);
        }
        let recorded = listening.recorded_by(progress.last_contact, &missing).await?;
        Ok(missing.len() - recorded.len())
    }

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
        self.take(listening, poll, &Given::default(), Source::poll).await.map(drop)
    }

    /// Publishes what a poll found, but for what is on the stream, and moves the cursor on. Returns
    /// how many of the `given` rounds it met.
    async fn take(
        &mut self,
        listening: &Listening,
        poll: Poll,
        given: &Given,
        source: Source,
    ) -> Result<usize, CaptureError> {
        self.observe_payloads(&poll.rows);
        self.has_read_games = false;
        let cursor = &self.progress()?.cursor;
        let unknown = poll.rows.iter().filter(|row| !cursor.knows(row.finish())).copied();
        // A link that breaks again and again still gets on: what is given is not read again.
        let (old, new): (Vec<_>, Vec<_>) = unknown.partition(|row| given.has(row.recorded));
        let mut met = old.len();
        for rows in new.chunks(READ_AT_ONCE) {
            met += self.read_and_publish(listening, rows, given, source).await?;
        }
        let finishes = poll.rows.iter().map(|row| (row.finish(), row.recorded.at)).collect();
        self.advance(poll, &finishes)?;
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

    fn advance(&mut self, poll: Poll, finishes: &HashMap<Finish, i64>) -> Result<(), CaptureError> {
        self.looked = poll.begun;
        self.parts.publisher.looked(poll.begun);
        let position = self.parts.publisher.position();
        let progress = self.progress()?;
        progress.last_contact = poll.at;
        let unconfirmed = progress.cursor.advance(poll.seen, finishes, position, Instant::now());
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

    /// What a new cursor's snapshot sees is on the stream by now.
    fn begin(&mut self) -> Result<(), CaptureError> {
        let position = self.parts.publisher.position();
        self.progress()?.cursor.begins_at(position);
        self.settle()
    }

    /// Tells the hub up to where the database may be asked for what is on the stream.
    fn settle(&mut self) -> Result<(), CaptureError> {
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

    fn saved(&mut self) -> Result<Snapshot, CaptureError> {
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

pub(super) fn moment(round: &Round) -> Moment {
    (round.round_id, round.finished_at)
}
