//! The capture of the read-only mode: without outbox, trigger, LISTEN and the schema `datastream`.
//! It polls the rounds that finished within the overlap, and publishes the new ones.
//!
//! A poll finds a round that commits within the overlap after its `finished_at`. The microsecond of
//! `finished_at` replaces the transaction's number, and the same less the overlap replaces the
//! oldest transaction that was running. So the same rules answer resume points: with repeats, and
//! without loss within the overlap. It works on a standby too.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_postgres::{Row, types::Type};

use super::{
    connection_limits,
    cursor::{RoundKey, round_key},
    error::CaptureError,
    presence::Presence,
    reconnect::{Reconnecting, run_connections},
    session::{Parameter, Session, within},
};
use crate::{
    ops::{
        backoff::Backoff,
        phase::Phase,
        shutdown::Shutdown,
        telemetry::metrics::{BySource, Metrics, Source as From},
    },
    postgres::{
        client,
        read_only::{IdTypes, Source},
        rows,
        sql::sql,
        target::PgTarget,
    },
    stream::{
        games::Games,
        hub::{Captured, DurablePosition, Publisher},
        round::{Round, UnixMillis},
        transaction::{Attachment, Xid},
    },
};

/// Between two polls. Each reads the rounds that finished within the overlap.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// How often the directory of games is read again.
const GAMES_EVERY: Duration = Duration::from_secs(2);
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
    pub source: Source,
    /// Recent rounds of each game for the initial load.
    pub history: i64,
    /// Where rounds go.
    pub publisher: Publisher,
    /// The directory of games.
    pub games: Games,
    /// Where to count.
    pub metrics: Metrics,
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
        self.require_time_zone(session).await?;
        if self.since.is_none() {
            connection_limits::warn(session).await?;
        }
        self.read_games(session).await?;
        if self.since.is_none() {
            self.load(session).await?;
        }
        let mut presence = Presence::start(session).await?;
        self.poll_with_presence(session, &mut presence, From::catch_up).await?;
        presence.claim_or_wait(session, true).await?;
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
                games_read = Instant::now();
            }
            self.poll_with_presence(session, &mut presence, From::poll).await?;
        }
    }

    /// Polls, and tells the hub whether another server may have polled at other times.
    async fn poll_with_presence(
        &mut self,
        session: &Session,
        presence: &mut Presence,
        found_by: From,
    ) -> Result<(), CaptureError> {
        presence.renew(session).await?;
        let alone = presence.ask(session).await?;
        if !presence.has_claimed(alone) {
            share(&self.settings, true);
        }
        presence.before_rounds(alone, session).await?;
        self.poll(session, found_by).await?;
        if presence.after_rounds(alone, session).await? {
            share(&self.settings, false);
        }
        Ok(())
    }

    /// Learns the types of the ids. PostgreSQL would read a `finished_at` without a time zone in the
    /// session's time zone. Then clients would get seeds, and no later round.
    async fn require_time_zone(&self, session: &Session) -> Result<(), CaptureError> {
        let query = self.settings.source.query(sql!("read_only/zoned"));
        let row = within(ANSWER_WITHIN, session.query_one(&query, &[])).await?;
        let types = IdTypes::of(row.try_get("round_type")?, row.try_get("game_type")?);
        self.settings.source.set_id_types(types);
        match row.try_get("zoned")? {
            true => Ok(()),
            false => Err(CaptureError::Query(
                "finished_at has no time zone (write: finished_at at time zone 'UTC' as finished_at)"
                    .to_owned(),
            )),
        }
    }

    async fn read_games(&self, session: &Session) -> Result<(), CaptureError> {
        let query = self.settings.source.query(sql!("read_only/games"));
        let rows = within(ANSWER_WITHIN, session.query(&query, &[]));
        let games = rows.await?;
        let games = games.iter().filter_map(|row| rows::game(row).transpose());
        let games = games.collect::<Result<Vec<_>, _>>()?;
        self.settings.publisher.hub().classify(&games);
        self.settings.games.replace(games);
        Ok(())
    }

    /// The initial load. It reads the rounds that finished within the overlap first: a game may have
    /// more of them than its ring buffer holds, and the older ones must not count as new.
    async fn load(&mut self, session: &Session) -> Result<(), CaptureError> {
        let overlap = self.settings.source.overlap_micros;
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        let query = self.settings.source.query(sql!("read_only/recent"));
        let parameters: [Parameter<'_>; 1] = [(&self.settings.history, Type::INT8)];
        let rows = within(ANSWER_WITHIN, session.query(&query, &parameters)).await?;
        let rounds = rounds(&rows)?;
        tracing::info!(rounds = rounds.len(), "recent rounds loaded");
        self.already_published = rounds.iter().chain(&in_overlap).map(round_key).collect();
        let recent = rounds.into_iter().map(|round| captured(round, overlap, self.polls)).collect();
        self.settings.publisher.preload(recent, Vec::new(), Xid(0));
        self.since = Some(now.saturating_sub(overlap));
        Ok(())
    }

    /// The database's clock, and the rounds that finished within the overlap.
    async fn finished_in_overlap(
        &self,
        session: &Session,
    ) -> Result<(i64, Vec<Round>), CaptureError> {
        let (now, _) = self.finished_since(session, None).await?;
        let since = now.saturating_sub(self.settings.source.overlap_micros);
        Ok((now, self.finished_since(session, Some(since)).await?.1))
    }

    /// The database's clock, and the rounds that finished since this time of it.
    async fn finished_since(
        &self,
        session: &Session,
        since: Option<i64>,
    ) -> Result<(i64, Vec<Round>), CaptureError> {
        let query = self.settings.source.query(sql!("read_only/finished_since"));
        let parameters: [Parameter<'_>; 1] = [(&since, Type::INT8)];
        let rows = within(ANSWER_WITHIN, session.query(&query, &parameters)).await?;
        let now = rows.first().ok_or(CaptureError::Closed)?.try_get("now")?;
        Ok((now, rounds(&rows)?))
    }

    /// Publishes the new ones of the rounds that finished within the overlap.
    async fn poll(&mut self, session: &Session, found_by: From) -> Result<(), CaptureError> {
        let (now, rounds) = self.finished_since(session, self.since).await?;
        self.settings.metrics.polls_total.inc();
        self.polls += 1;
        let seen: HashSet<_> = rounds.iter().map(round_key).collect();
        let new =
            rounds.into_iter().filter(|round| !self.already_published.contains(&round_key(round)));
        let overlap = self.settings.source.overlap_micros;
        let new: Vec<_> = new.map(|round| captured(round, overlap, self.polls)).collect();
        let games = &self.settings.games;
        if new.iter().any(|captured| games.by_id(&captured.round.game_id).is_none()) {
            self.read_games(session).await?;
        }
        let label = BySource { source: found_by };
        self.settings.metrics.rounds_captured_total.get_or_create(&label).inc_by(new.len() as u64);
        self.settings.publisher.publish(new);
        // Older rounds are not read again, not even if the clock was set back by less than the overlap.
        self.already_published = seen;
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

    /// After the clock was set back by more than the overlap: all present rounds count as published,
    /// or clients would get those of the repeated time again.
    async fn restart_after_clock_change(&mut self, session: &Session) -> Result<(), CaptureError> {
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        self.already_published.extend(in_overlap.iter().map(round_key));
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

fn rounds(rows: &[Row]) -> Result<Vec<Round>, CaptureError> {
    let now = UnixMillis::now();
    let mut rounds = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<_, Option<i32>>("attachment")?.is_some() {
            rounds.extend(rows::round(row, now)?.ok());
        }
    }
    Ok(rounds)
}

/// Sets whether other servers may publish the same rounds from now on.
fn share(settings: &ReadOnlySettings, shared: bool) {
    settings.metrics.other_nodes.set(i64::from(shared));
    settings.publisher.share(shared);
}

fn captured(round: Round, overlap: i64, poll: u64) -> Captured {
    let finished = round.finished_at.micros();
    let number = |micros: i64| Xid(micros.max(1).cast_unsigned());
    Captured {
        xid: number(finished),
        attachment: Attachment::default(),
        before: number(finished.saturating_sub(overlap)),
        poll,
        // The database's clock is another one, and a finish is not a commit.
        recorded: None,
        round,
    }
}
