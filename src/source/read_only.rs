//! The capture of the read-only mode: no outbox, no trigger, no LISTEN, no schema of ours. What
//! finished in_overlap is read again and again, and what is new in it goes out.
//!
//! A round is found if it is committed within the overlap after its `finished_at`. In place of
//! its transaction stands the microsecond of its finish, less the overlap where the oldest
//! transaction beside it would stand: so resume points are answered by the same rules (a superset,
//! never a loss, within that limit). Works on a standby too.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_postgres::{Row, types::Type};

use super::{
    CaptureError,
    cursor::{RoundKey, round_key},
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
    postgres::{client, read_only::Source, rows, target::PgTarget},
    stream::{
        games::Games,
        hub::{Captured, DurablePosition, Publisher},
        round::{Round, UnixMillis},
        transaction::Xid,
    },
};

/// Between two polls. Each reads what finished within the overlap.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// How often the directory of games is read again.
const GAMES_EVERY: Duration = Duration::from_secs(60);
/// An index is missing where a look takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Nothing that these sessions do may change anything.
const SESSION_SETTINGS: [(&str, &str); 3] =
    [("default_transaction_read_only", "on"), ("statement_timeout", "60s"), ("jit", "off")];

/// What it is made of.
#[derive(Debug)]
pub(crate) struct ReadOnlySettings {
    /// The database.
    pub target: PgTarget,
    /// The operator's own queries.
    pub source: Source,
    /// Rounds of each game to fill the memory with at start.
    pub history: i64,
    /// Where rounds go.
    pub publisher: Publisher,
    /// The directory of games.
    pub games: Games,
    /// Where to count.
    pub metrics: Metrics,
    /// Who stops it.
    pub shutdown: Shutdown,
}

/// The one task that puts rounds on the stream, where there is no outbox.
#[derive(Debug)]
pub(crate) struct ReadOnlyCapture {
    settings: ReadOnlySettings,
    phase: watch::Sender<Phase>,
    /// From where to look, by the database's clock; `None` until the memory has been filled.
    since: Option<i64>,
    /// What is on the stream of that time.
    already_published: HashSet<RoundKey>,
    /// Counts the polls.
    polls: u64,
}

impl ReadOnlyCapture {
    /// Makes a capture, and the channel that tells where it stands.
    pub(crate) fn new(settings: ReadOnlySettings) -> (Self, watch::Receiver<Phase>) {
        let (phase, watched) = watch::channel(Phase::Connecting { problem: None });
        share(&settings, true);
        (
            Self { settings, phase, since: None, already_published: HashSet::new(), polls: 0 },
            watched,
        )
    }

    /// Captures until the shutdown; an error is one that waiting cannot mend, met before the
    /// stream was ever live.
    pub(crate) async fn run(mut self) -> Result<(), CaptureError> {
        let shutdown = self.settings.shutdown.clone();
        run_connections(&mut self, &shutdown).await
    }

    async fn connect(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let link = client::connect(&self.settings.target, "read-only", &SESSION_SETTINGS).await?;
        let mut messages = link.messages;
        let poll_until_closed =
            async { self.poll_until_closed(&Session::new(link.client).await?, backoff).await };
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
        self.read_games(session).await?;
        if self.since.is_none() {
            self.load(session).await?;
        }
        let mut presence = Presence::start(session).await?;
        self.poll_with_presence(session, &mut presence, From::catch_up).await?;
        presence.settle(session).await?;
        self.settings.publisher.open();
        self.settings.metrics.listener_connected.set(1);
        self.phase.send_replace(Phase::Live { since: Instant::now() });
        tracing::info!("live: reading without a schema of ours, by finished_at");
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

    /// Looks, and tells the hub whether another server may have looked at other moments.
    async fn poll_with_presence(
        &mut self,
        session: &Session,
        presence: &mut Presence,
        found_by: From,
    ) -> Result<(), CaptureError> {
        presence.renew(session).await?;
        let alone = presence.ask(session).await?;
        if presence.before_rounds(alone, session).await? {
            share(&self.settings, true);
        }
        self.poll(session, found_by).await?;
        if presence.after_rounds(alone, session).await? {
            share(&self.settings, false);
        }
        Ok(())
    }

    /// A moment without a time zone would be read as one of the session's: seeds would come, and no
    /// round after them.
    async fn require_time_zone(&self, session: &Session) -> Result<(), CaptureError> {
        let query = self.settings.source.query(include_str!("../../sql/read_only/zoned.sql"));
        let row = within(ANSWER_WITHIN, session.query_one(&query, &[])).await?;
        match row.try_get("zoned")? {
            true => Ok(()),
            false => Err(CaptureError::Query(
                "finished_at has no time zone; write finished_at at time zone 'UTC' as finished_at"
                    .to_owned(),
            )),
        }
    }

    async fn read_games(&self, session: &Session) -> Result<(), CaptureError> {
        let query = self.settings.source.query(include_str!("../../sql/read_only/games.sql"));
        let rows = within(ANSWER_WITHIN, session.query(&query, &[]));
        let games = rows.await?.iter().map(rows::game).collect::<Result<_, _>>()?;
        self.settings.games.replace(games);
        Ok(())
    }

    /// Fills the memory. What finished in_overlap is read first, so that of a game with more of it than
    /// the memory takes the older rounds do not count as new.
    async fn load(&mut self, session: &Session) -> Result<(), CaptureError> {
        let overlap = self.settings.source.overlap_micros;
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        let query = self.settings.source.query(include_str!("../../sql/read_only/recent.sql"));
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

    /// The database's clock, and the rounds that finished since this moment of it.
    async fn finished_since(
        &self,
        session: &Session,
        since: Option<i64>,
    ) -> Result<(i64, Vec<Round>), CaptureError> {
        let query =
            self.settings.source.query(include_str!("../../sql/read_only/finished_since.sql"));
        let parameters: [Parameter<'_>; 1] = [(&since, Type::INT8)];
        let rows = within(ANSWER_WITHIN, session.query(&query, &parameters)).await?;
        let now = rows.first().ok_or(CaptureError::Closed)?.try_get("now")?;
        Ok((now, rounds(&rows)?))
    }

    /// Publishes what is new among the rounds that finished within the overlap.
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
        if new.iter().any(|captured| games.by_id(captured.round.game_id).is_none()) {
            self.read_games(session).await?;
        }
        let label = BySource { source: found_by };
        self.settings.metrics.rounds_captured_total.get_or_create(&label).inc_by(new.len() as u64);
        self.settings.publisher.publish(new);
        // What is older is not looked at again, not even when the clock was set back a little.
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

    /// After the clock was set back by more than the overlap: what is there by then is taken for
    /// streamed, or all of that time would come again.
    async fn restart_after_clock_change(&mut self, session: &Session) -> Result<(), CaptureError> {
        let (now, in_overlap) = self.finished_in_overlap(session).await?;
        self.already_published.extend(in_overlap.iter().map(round_key));
        self.since = Some(now.saturating_sub(self.settings.source.overlap_micros));
        tracing::warn!(
            "the database's clock was set back by more than the overlap: a round that finished \
             just then may be missed"
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

/// A query of the operator's that is no SQL, or of other columns, or not allowed (class 42), is told
/// as such: waiting does not mend it.
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
        if row.try_get::<_, Option<i64>>("round_id")?.is_some() {
            rounds.extend(rows::round(row, now)?.ok());
        }
    }
    Ok(rounds)
}

/// Says whether other servers may publish the same rounds from now on.
fn share(settings: &ReadOnlySettings, shared: bool) {
    settings.metrics.other_nodes.set(i64::from(shared));
    settings.publisher.share(shared);
}

fn captured(round: Round, overlap: i64, poll: u64) -> Captured {
    let finished = round.finished_at.micros();
    let number = |micros: i64| Xid(micros.max(1).cast_unsigned());
    Captured {
        xid: number(finished),
        before: number(finished.saturating_sub(overlap)),
        // The clock of the database is not ours, and a finish is not a commit.
        poll,
        recorded: None,
        round,
    }
}
