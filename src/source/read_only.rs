//! The capture of the read-only mode: without outbox, trigger, LISTEN and the schema `datastream`.
//! It polls the rounds that finished within the overlap, and publishes the new ones.
//!
//! A poll finds a round that commits within the overlap after its `finished_at`. The microsecond of
//! `finished_at` replaces the transaction's number, and the same less the overlap replaces the
//! oldest transaction that was running. So the same rules answer resume points: with repeats, and
//! without loss within the overlap. It works on a standby too.

mod queries;
mod recent;
mod solo_claim;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::sync::watch;

use self::{queries::ReadOnlyQueries, recent::RecentRounds, solo_claim::SoloClaim};
use super::{
    connection_limits,
    content_reader::ChunkSize,
    cursor::{RoundKey, round_key},
    error::CaptureError,
    poll::Content,
    reconnect::{Reconnecting, run_connections},
    session::Session,
};
use crate::{
    ops::{
        backoff::Backoff,
        phase::Phase,
        shutdown::Shutdown,
        telemetry::metrics::{BySource, FoundBy, Metrics},
    },
    postgres::{client, read_only::OperatorQueries, target::PgTarget},
    stream::{
        games::Games,
        hub::{Captured, DurablePosition, Publisher},
        round::Round,
        skipped_rounds::SkippedRounds,
        transaction::{Attachment, RoundName, Xid},
    },
};

/// Between two polls. Each reads the keys of the rounds that finished within the overlap.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// How often the directory of games is read again, and rounds are looked for that no poll finds.
const GAMES_EVERY: Duration = Duration::from_secs(2);
/// The name of the table in log lines: the operator's query may read several.
const TABLE: &str = "DATASTREAM_READ_ONLY_ROUNDS";
/// A poll that takes longer lacks an index.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// These sessions must not change anything.
const SESSION_SETTINGS: [(&str, &str); 3] =
    [("default_transaction_read_only", "on"), ("statement_timeout", "60s"), ("jit", "off")];

/// The parts that the capture works with.
#[derive(Debug)]
pub(crate) struct ReadOnlySettings {
    /// The database.
    pub target: PgTarget,
    /// The operator's own queries.
    pub source: OperatorQueries,
    /// Recent rounds of each game for the initial load.
    pub history: i64,
    /// Where rounds go.
    pub publisher: Publisher,
    /// The directory of games.
    pub games: Games,
    /// Where to count.
    pub metrics: Metrics,
    /// Counts rounds that cannot be sent.
    pub skipped: SkippedRounds,
    /// Ends the capture.
    pub shutdown: Shutdown,
}

/// The one task that publishes rounds if there is no outbox.
#[derive(Debug)]
pub(crate) struct ReadOnlyCapture {
    settings: ReadOnlySettings,
    phase: watch::Sender<Phase>,
    /// Polls read rounds that finished from this time on, by the database's clock, in microseconds;
    /// `None` until the initial load is done.
    since: Option<i64>,
    /// The published rounds that finished since then.
    already_published: HashSet<RoundKey>,
    /// Counts the polls.
    polls: u64,
}

impl ReadOnlyCapture {
    /// Makes a capture, and the channel of its phase.
    pub(crate) fn new(settings: ReadOnlySettings) -> (Self, watch::Receiver<Phase>) {
        let (phase, watched) = watch::channel(Phase::Connecting { problem: None });
        share(&settings, true);
        settings.skipped.name_tables(HashMap::from([(Attachment::default(), TABLE.to_owned())]));
        (
            Self { settings, phase, since: None, already_published: HashSet::new(), polls: 0 },
            watched,
        )
    }

    /// Captures until the shutdown. An error is one that waiting cannot fix, met before the initial
    /// load was done.
    pub(crate) async fn run(mut self) -> Result<(), CaptureError> {
        let shutdown = self.settings.shutdown.clone();
        run_connections(&mut self, &shutdown).await
    }

    async fn connect(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let link = client::connect(&self.settings.target, "read-only", &SESSION_SETTINGS).await?;
        let mut messages = link.messages;
        let begin = client::begin(&self.settings.target, &SESSION_SETTINGS);
        let poll_until_closed = async {
            self.poll_until_closed(&Session::new(link.client, begin).await?, backoff).await
        };
        tokio::select! {
            ended = poll_until_closed => ended,
            () = async { while messages.next().await.is_some() {} } => Err(CaptureError::Closed),
        }
    }

    async fn poll_until_closed(
        &mut self,
        session: &Session,
        backoff: &mut Backoff,
    ) -> Result<Infallible, CaptureError> {
        self.queries(session).require_time_zone().await?;
        if self.since.is_none() {
            connection_limits::warn(session).await?;
        }
        self.read_games(session).await?;
        self.queries(session).count_skipped().await?;
        if self.since.is_none() {
            self.load(session).await?;
        }
        let mut claim = SoloClaim::start(session).await?;
        self.poll_with_claim(session, &mut claim, FoundBy::catch_up).await?;
        claim.claim_or_wait(session).await?;
        self.settings.publisher.open();
        self.settings.metrics.listener_connected.set(1);
        self.phase.send_replace(Phase::Live { since: Instant::now() });
        tracing::info!("live: polling by finished_at, without the schema datastream");
        backoff.reset();
        let mut games_read = Instant::now();
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            if games_read.elapsed() > GAMES_EVERY {
                self.read_games(session).await?;
                self.queries(session).count_skipped().await?;
                games_read = Instant::now();
            }
            self.poll_with_claim(session, &mut claim, FoundBy::poll).await?;
        }
    }

    /// Polls, and tells the hub whether another server may have polled at other times.
    async fn poll_with_claim(
        &mut self,
        session: &Session,
        claim: &mut SoloClaim,
        found_by: FoundBy,
    ) -> Result<(), CaptureError> {
        claim.renew(session).await?;
        let alone = claim.ask(session).await?;
        if !claim.has_claimed(alone) {
            share(&self.settings, true);
        }
        claim.before_rounds(alone, session).await?;
        self.poll(session, found_by).await?;
        if claim.after_rounds(alone, session).await? {
            share(&self.settings, false);
        }
        Ok(())
    }

    fn queries<'a>(&'a self, session: &'a Session) -> ReadOnlyQueries<'a> {
        let ReadOnlySettings { source, skipped, .. } = &self.settings;
        ReadOnlyQueries { session, source, skipped }
    }

    async fn read_games(&self, session: &Session) -> Result<(), CaptureError> {
        let games = self.queries(session).games().await?;
        self.settings.publisher.hub().classify(&games);
        self.settings.games.replace(games);
        Ok(())
    }

    /// The initial load. It reads the keys of the rounds that finished within the overlap first: a
    /// game may have more of them than its ring buffer holds, and the older ones must not count as new.
    async fn load(&mut self, session: &Session) -> Result<(), CaptureError> {
        let (queries, overlap) = (self.queries(session), self.settings.source.overlap_micros);
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        let keys = queries.recent_keys(self.settings.history).await?;
        let recent: HashSet<_> = keys.keys.iter().map(|recent| recent.key.clone()).collect();
        let bytes = self.settings.publisher.history_share();
        let loaded = RecentRounds::new(self.settings.history, bytes).read(keys, queries).await?;
        let (rounds, floor) = loaded;
        tracing::info!(rounds = rounds.len(), "recent rounds loaded");
        self.already_published = recent;
        self.already_published.extend(in_overlap);
        self.already_published.extend(rounds.iter().map(|captured| round_key(&captured.round)));
        self.settings.publisher.preload(rounds, Vec::new(), floor);
        self.since = Some(now.saturating_sub(overlap));
        Ok(())
    }

    /// The database's clock, and the keys of the rounds that finished within the overlap.
    async fn finished_in_overlap(
        &self,
        session: &Session,
    ) -> Result<(i64, Vec<RoundKey>), CaptureError> {
        let (now, _) = self.queries(session).keys_since(None).await?;
        let since = now.saturating_sub(self.settings.source.overlap_micros);
        Ok((now, self.queries(session).keys_since(Some(since)).await?.1))
    }

    /// Publishes the new ones of the rounds that finished within the overlap.
    async fn poll(&mut self, session: &Session, found_by: FoundBy) -> Result<(), CaptureError> {
        let (now, keys) = self.queries(session).keys_since(self.since).await?;
        self.settings.metrics.polls_total.inc();
        self.polls += 1;
        let new = keys.iter().filter(|key| !self.already_published.contains(key));
        let new: Vec<RoundKey> = new.cloned().collect();
        let published = self.publish_new(session, &new, found_by).await?;
        // Older rounds are not read again, not even if the clock was set back by less than the overlap.
        self.already_published = keys.into_iter().chain(published).collect();
        let overlap = self.settings.source.overlap_micros;
        let since = self.since.map_or(i64::MIN, |since| since.max(now.saturating_sub(overlap)));
        self.since = Some(since);
        if now < since {
            return self.restart_after_clock_change(session).await;
        }
        let position = self.settings.publisher.position();
        let oldest_running = Xid(since.max(0).cast_unsigned());
        self.settings.publisher.set_durable_position(DurablePosition {
            oldest_running,
            snapshot: "".into(),
            position,
        });
        Ok(())
    }

    /// Publishes the rounds of these keys, some at a time. Returns their keys: a round may have finished
    /// again before its content was read.
    async fn publish_new(
        &mut self,
        session: &Session,
        mut new: &[RoundKey],
        found_by: FoundBy,
    ) -> Result<Vec<RoundKey>, CaptureError> {
        let (mut published, mut size) = (Vec::with_capacity(new.len()), ChunkSize::default());
        while !new.is_empty() {
            let names: Vec<RoundName> = new.iter().take(size.rounds()).map(round_name).collect();
            let (mut contents, read) = self.queries(session).contents(&names, &mut size).await?;
            if contents.values().any(|content| self.lacks_its_game(content)) {
                self.read_games(session).await?;
            }
            // From here on nothing waits: what counts as published is published.
            let content = |name| contents.remove(name).unwrap_or(Content::Missing);
            let found: Vec<_> = names[..read].iter().map(content).collect();
            let rounds = new.iter().zip(found);
            let rounds = rounds.filter_map(|(key, content)| self.new_round(key, content));
            let rounds: Vec<Round> = rounds.collect();
            published.extend(rounds.iter().map(round_key));
            self.publish(rounds, found_by);
            self.settings.publisher.wait_for_outlets().await;
            new = &new[read..];
        }
        Ok(published)
    }

    /// The round of a new key, unless it was published before or cannot be sent.
    fn new_round(&mut self, key: &RoundKey, content: Content) -> Option<Round> {
        self.already_published.insert(key.clone());
        if let Some(reason) = content.skipped() {
            let (attachment, id) = round_name(key);
            self.settings.skipped.skip(reason, attachment, &id);
        }
        let Content::Round(round) = content else { return None };
        let read = round_key(&round);
        (read == *key || self.already_published.insert(read)).then_some(*round)
    }

    fn publish(&self, rounds: Vec<Round>, found_by: FoundBy) {
        let overlap = self.settings.source.overlap_micros;
        let label = BySource { source: found_by };
        let counter = &self.settings.metrics.rounds_captured_total;
        counter.get_or_create(&label).inc_by(rounds.len() as u64);
        let rounds = rounds.into_iter().map(|round| captured(round, overlap, self.polls));
        self.settings.publisher.publish(rounds.collect());
    }

    /// Whether the directory lacks the game of a round, or has another slug or type of it.
    fn lacks_its_game(&self, content: &Content) -> bool {
        let Content::Round(round) = content else { return false };
        let game = self.settings.games.by_id(&round.game_id);
        game.is_none_or(|game| game.slug != round.game_slug || game.kind != round.game_type)
    }

    /// After the clock was set back by more than the overlap: all present rounds count as published,
    /// or clients would get those of the repeated time again.
    async fn restart_after_clock_change(&mut self, session: &Session) -> Result<(), CaptureError> {
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        self.already_published.extend(in_overlap);
        self.since = Some(now.saturating_sub(self.settings.source.overlap_micros));
        tracing::warn!(
            "the database's clock was set back by more than the overlap: a round that finished at \
             that time may be lost"
        );
        Ok(())
    }
}

impl Reconnecting for ReadOnlyCapture {
    async fn run_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let ended = self.connect(backoff).await;
        self.settings.metrics.listener_connected.set(0);
        ended.map_err(as_query_error)
    }

    fn is_loaded(&self) -> bool {
        self.since.is_some()
    }

    fn phase(&self) -> &watch::Sender<Phase> {
        &self.phase
    }
}

/// Errors of class 42 are faults of the operator's queries (syntax, columns, rights), which waiting
/// does not fix.
fn as_query_error(error: CaptureError) -> CaptureError {
    match error {
        CaptureError::OtherSchema(message) => CaptureError::Query(message),
        CaptureError::Database(error) => match error.as_db_error() {
            Some(db) if db.code().code().starts_with("42") => {
                CaptureError::Query(db.message().to_owned())
            }
            _ => CaptureError::Database(error),
        },
        error => error,
    }
}

/// Sets whether other servers may publish the same rounds from now on.
fn share(settings: &ReadOnlySettings, shared: bool) {
    settings.metrics.other_nodes.set(i64::from(shared));
    settings.publisher.share(shared);
}

fn captured(round: Round, overlap: i64, poll: u64) -> Captured {
    let finished = round.finished_at.micros();
    Captured {
        xid: transaction(finished),
        attachment: Attachment::default(),
        before: transaction(finished.saturating_sub(overlap)),
        poll,
        // The database's clock is another one, and a finish is not a commit.
        at: None,
        recorded: None,
        round,
    }
}

/// The microsecond that replaces a transaction.
fn transaction(micros: i64) -> Xid {
    Xid(micros.max(1).cast_unsigned())
}

fn round_name(key: &RoundKey) -> RoundName {
    (Attachment::default(), key.round.clone())
}
