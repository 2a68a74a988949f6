//! One connection of the capture: catch-up, then live.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use super::{
    content_reader::ChunkSize,
    cursor::{AlreadyPublished, RoundKey, round_key},
    error::CaptureError,
    exact_claim::{ExactClaim, OtherServers},
    initial_load::InitialLoad,
    listener::Listener,
    outbox_reader::PollAnswer,
    pace::Pace,
    poll::{Bounds, FoundRow, Poll},
    probe::Probe,
    publisher::{Outcome, RoundPublisher},
    running::{OtherTimeline, Running},
    suppression::Suppression,
};
use crate::{
    ops::telemetry::metrics::FoundBy,
    stream::transaction::{RoundName, Xid},
};

/// How often the directory of games is read. A change of it is known within 5 s
/// (docs/guarantees.md, G12), even if one read fails. A thousand games take 1 ms.
const GAMES_EVERY: Duration = Duration::from_secs(2);

/// How far the capture has come.
#[derive(Debug)]
pub(super) enum State {
    /// No connection has finished the initial load; this much of it was read.
    InitialLoad(Option<InitialLoad>),
    /// The stream is open.
    Running(Box<Running>),
}

/// A connection that listens, with the locks that it holds.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    pub(super) listener: Listener,
    pub(super) claim: ExactClaim,
    pub(super) publisher: &'a mut RoundPublisher,
}

impl Connection<'_> {
    /// Publishes all that is committed by now: after the first connection from the initial load on,
    /// after a later one from where the last one ended.
    pub(super) async fn catch_up(
        &mut self,
        state: &mut State,
        per_game: i64,
    ) -> Result<(), CaptureError> {
        self.read_games().await?;
        self.forget_another_database(state).await?;
        let (already, is_rewound) = match state {
            State::InitialLoad(loaded) => {
                let running = self.load(loaded, per_game).await?;
                *state = State::Running(Box::new(running));
                // Last: if the connection breaks before, nobody waits for this server.
                self.claim_or_wait(true).await?;
                // Other servers may have sent what was committed since the load began.
                self.publisher.share(true);
                (AlreadyPublished::default(), false)
            }
            State::Running(running) => self.resume(running).await?,
        };
        let State::Running(running) = state else { return Err(CaptureError::Closed) };
        let repeated = self.publish_pages(running, &already, FoundBy::catch_up).await?.repeated;
        if is_rewound && repeated < already.len() {
            self.publisher.report_lost(already.len() - repeated);
        }
        Ok(())
    }

    /// Starts over if the connection leads to another database.
    async fn forget_another_database(&mut self, state: &mut State) -> Result<(), CaptureError> {
        match state {
            State::Running(running) if running.is_of_another_database(&self.listener) => {
                self.publisher.forget_database().await?;
                *state = State::InitialLoad(None);
                self.read_games().await
            }
            _ => Ok(()),
        }
    }

    /// Finishes the initial load, from where the last connection ended.
    async fn load(
        &mut self,
        loaded: &mut Option<InitialLoad>,
        per_game: i64,
    ) -> Result<Running, CaptureError> {
        let history_bytes = self.publisher.sink.history_share();
        InitialLoad::read(loaded, &self.listener, per_game, history_bytes).await?;
        let load = loaded.take().ok_or(CaptureError::Closed)?;
        load.finish(&self.listener, self.publisher).await
    }

    /// Goes on where the last connection ended. Returns the rounds that the outbox may repeat, and
    /// whether it must repeat all of them.
    async fn resume(
        &mut self,
        running: &mut Running,
    ) -> Result<(AlreadyPublished, bool), CaptureError> {
        let continues = running.continues_on(&self.listener).await?;
        self.claim_or_wait(false).await?;
        if continues {
            return Ok((running.cursor.rewind(), true));
        }
        // The row may be as old as the copy.
        self.publisher.share(true);
        Ok((self.start_over(running).await?, false))
    }

    /// Waits until no other server answers exactly. Unless this one does, others may have sent the
    /// rounds that it has published, or those that it publishes next. `is_new`: it has published none.
    async fn claim_or_wait(&mut self, is_new: bool) -> Result<(), CaptureError> {
        if !self.claim.claim_or_wait(self.listener.session(), is_new).await? {
            self.publisher.share(true);
        }
        Ok(())
    }

    /// Returns the rounds that the outbox may repeat.
    async fn start_over(
        &mut self,
        running: &mut Running,
    ) -> Result<AlreadyPublished, CaptureError> {
        self.publisher.sink.start_over();
        let OtherTimeline { new, lost } = running.start_over(&self.listener).await?;
        let keys = self.publish_finished(running, &new).await?;
        running.cursor.begins_at(self.publisher.sink.position());
        running.identity = self.listener.identity.clone();
        self.publisher.set_durable_position(running);
        if lost > 0 {
            self.publisher.report_lost(lost);
        }
        Ok(AlreadyPublished::by_key(keys))
    }

    /// Publishes rounds that another timeline has, chunk by chunk: the content of all may be larger
    /// than the memory. If the connection breaks between two, the next one compares again.
    async fn publish_finished(
        &mut self,
        running: &mut Running,
        mut names: &[RoundName],
    ) -> Result<HashSet<RoundKey>, CaptureError> {
        let (mut keys, mut size) = (HashSet::new(), ChunkSize::default());
        while !names.is_empty() {
            let (chunk, rest) = names.split_at(names.len().min(size.rounds()));
            let queries = self.listener.queries();
            let Some(rounds) = queries.rounds(chunk, &mut size).await? else { continue };
            names = rest;
            keys.extend(rounds.iter().map(round_key));
            self.publisher.publish(running.capture(rounds), FoundBy::catch_up).await?;
            self.publisher.sink.wait_for_outlets().await;
        }
        Ok(keys)
    }

    /// Publishes what was committed since the cursor's snapshot, page by page.
    ///
    /// A night without a connection may leave millions of rounds. Each page that is published moves
    /// the cursor on: memory is bounded, except for a transaction that is larger than a page, and a
    /// connection that breaks meanwhile costs a page.
    async fn publish_pages(
        &mut self,
        running: &mut Running,
        already: &AlreadyPublished,
        found_by: FoundBy,
    ) -> Result<Outcome, CaptureError> {
        let mut bounds = Bounds::beginning(running.cursor.saved());
        let (mut outcome, mut at) = (Outcome::default(), None);
        loop {
            let mut page = self.listener.reader().page(running.cursor.saved(), &bounds).await?;
            // All pages show one moment.
            page.at = *at.get_or_insert(page.at);
            self.refuse_trimmed(running, &bounds).await?;
            let end = page.complete_before();
            let rows = std::mem::take(&mut page.rows);
            let oldest = rows.iter().map(|found| found.row.key.at).min();
            outcome.add(self.publish_found(running, page.others, rows, already, found_by).await?);
            let Some((end, after)) = end else {
                self.advance(running, page).await?;
                return Ok(outcome);
            };
            self.advance_before(running, end, &page, oldest);
            self.publisher.sink.wait_for_outlets().await;
            bounds = Bounds { until: Some(page.seen.snapshot), after };
        }
    }

    /// Retention may delete rows before a page is read.
    async fn refuse_trimmed(&self, running: &Running, bounds: &Bounds) -> Result<(), CaptureError> {
        let trimmed = self.listener.queries().trimmed().await?;
        match trimmed >= bounds.after.xid && !running.cursor.saved().sees(trimmed) {
            true => Err(CaptureError::Trimmed),
            false => Ok(()),
        }
    }

    /// Moves the cursor to where this page is complete. The order of pages is that of transactions,
    /// not of moments: a database on another timeline is searched from the page's oldest row on.
    fn advance_before(
        &mut self,
        running: &mut Running,
        end: Xid,
        page: &Poll,
        oldest: Option<i64>,
    ) {
        let position = self.publisher.sink.position();
        if running.cursor.advance_before(end, &page.seen, position) {
            running.last_contact = running.last_contact.max(oldest.unwrap_or_default());
        }
        self.publisher.set_durable_position(running);
    }

    /// Publishes rows, after the hub knows whether others may publish them too.
    async fn publish_found(
        &mut self,
        running: &mut Running,
        others: OtherServers,
        rows: Vec<FoundRow>,
        already: &AlreadyPublished,
        found_by: FoundBy,
    ) -> Result<Outcome, CaptureError> {
        let session = self.listener.session();
        // The hub first: another server may serve as soon as this one's number is removed.
        match self.claim.exact_until(others) {
            Some(end) => self.publisher.sink.answer_exactly_until(end),
            None => self.publisher.share(true),
        }
        self.claim.renew(session).await?;
        self.claim.before_rounds(others, session).await?;
        let (known, mut new): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|found| already.has_row(&found.row.key));
        let mut outcome = Outcome { published: 0, repeated: known.len() };
        let mut size = ChunkSize::default();
        while !new.is_empty() {
            let chunk = self.listener.reader().take_with_contents(&mut new, &mut size).await?;
            outcome.add(self.publish_chunk(running, chunk, already, found_by).await?);
            if !new.is_empty() {
                self.publisher.sink.wait_for_outlets().await;
            }
        }
        Ok(outcome)
    }

    async fn publish_chunk(
        &mut self,
        running: &mut Running,
        mut rows: Vec<FoundRow>,
        already: &AlreadyPublished,
        found_by: FoundBy,
    ) -> Result<Outcome, CaptureError> {
        if self.publisher.lacks_a_game(&rows) {
            self.read_games().await?;
        }
        if rows.iter().any(FoundRow::is_missing) {
            self.listener.reader().read_missing(&mut rows).await?;
        }
        if self.publisher.lacks_a_table(&rows) {
            self.publisher.skipped.name_tables(self.listener.queries().tables().await?);
        }
        self.publisher.publish_rows(rows, already, &mut running.cursor, found_by).await
    }

    /// Moves the cursor to the end of a poll, all rows of which are published.
    async fn advance(&mut self, running: &mut Running, poll: Poll) -> Result<(), CaptureError> {
        running.last_contact = poll.at;
        running.cursor.advance(poll.seen, self.publisher.sink.position());
        self.publisher.set_durable_position(running);
        self.publisher.sink.keep_up().await?;
        if self.claim.after_rounds(poll.others, self.listener.session()).await? {
            self.publisher.share(false);
        }
        Ok(())
    }

    /// Publishes what was committed since the last poll; returns how many rounds that was.
    /// `is_quiet`: most likely none.
    async fn poll(&mut self, running: &mut Running, is_quiet: bool) -> Result<usize, CaptureError> {
        let already = AlreadyPublished::default();
        let (reader, saved) = (self.listener.reader(), running.cursor.saved());
        let answer =
            if is_quiet { reader.poll_if_any(saved).await? } else { reader.poll(saved).await? };
        self.publisher.metrics.polls_total.inc();
        let mut poll = match answer {
            PollAnswer::Complete(poll) => poll,
            PollAnswer::Locked => {
                tracing::warn!(
                    "another session locks an attached table or its games, so all rounds wait. Find \
                     the session in pg_locks."
                );
                return Ok(0);
            }
            PollAnswer::ReadInPages => {
                return Ok(self.publish_pages(running, &already, FoundBy::poll).await?.published);
            }
        };
        let rows = std::mem::take(&mut poll.rows);
        let outcome =
            self.publish_found(running, poll.others, rows, &already, FoundBy::poll).await?;
        self.advance(running, poll).await?;
        Ok(outcome.published)
    }

    /// Follows changes of the game's directory that no round shows: a renamed or deleted game. It
    /// takes two tries if a migration of the game holds a lock on the table.
    async fn read_games(&mut self) -> Result<(), CaptureError> {
        match self.listener.queries().games().await {
            Ok(games) => self.publisher.replace_games(games).await?,
            Err(error) if error.is_lock_timeout() || error.is_of_data() => {
                tracing::debug!(%error, "cannot read the games; trying again");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Lets other servers serve at once, before this one stops.
    pub(super) async fn leave(&mut self) {
        self.publisher.share(true);
        if let Err(error) = self.claim.leave(self.listener.session()).await {
            tracing::debug!(%error, "another server may wait for the lease of this one");
        }
    }

    /// Polls at each notification, and without one when the pace says so.
    pub(super) async fn live(
        &mut self,
        running: &mut Running,
        mut probe: Probe<'_>,
        suppression: &Suppression,
    ) -> Result<Infallible, CaptureError> {
        let mut pace = Pace::new(Instant::now());
        let mut games_read = Instant::now();
        loop {
            let is_notified = probe.check(&self.listener).await?;
            let is_quiet = tokio::select! {
                () = self.listener.wake_ups().arrival() => false,
                () = tokio::time::sleep(pace.pause(is_notified, Instant::now())) => {
                    !pace.is_active(Instant::now())
                }
            };
            if self.listener.wake_ups().is_ended() {
                return Err(CaptureError::Closed);
            }
            let notifications = self.listener.wake_ups().take();
            self.publisher.receive(&notifications);
            let published = self.poll(running, is_quiet).await?;
            let now = Instant::now();
            self.publisher.audit.check(now, &self.publisher.metrics);
            pace.record(published as u64, notifications.count > 0, now);
            if now.duration_since(games_read) > GAMES_EVERY {
                self.read_games().await?;
                games_read = now;
            }
            suppression.set(pace.suppresses() && probe.modes().can_be_suppressed());
        }
    }
}
