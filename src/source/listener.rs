//! The LISTEN connection: one session, used for nothing but listening and reading the outbox.

use std::{
    collections::HashSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;
use tokio_postgres::types::Type;

use super::{
    POLL_ACTIVE,
    company::{self, Word},
    cursor::{Lsn, Recorded, Seen},
    error::CaptureError,
    inbox::{CHANNEL, Inbox, PROBE_CHANNEL, pump},
    poll::{Bounds, PAGE_ROWS, Poll},
    session::{Ask, Parameter, Session},
    snapshot::Snapshot,
};
use crate::{
    ops::shutdown::Shutdown,
    postgres::{
        client,
        rows::{DecodedRound, captured, game, round},
        target::PgTarget,
    },
    stream::{
        hub::Captured,
        round::{FinishedAt, Game, Round, RoundId, UnixMillis},
        transaction::Xid,
    },
};

/// The poll must keep to the outbox's primary key. After ANALYZE on a big outbox the generic plan
/// expects a third of the table: 1.3-5 ms for an empty poll instead of 0.11 ms. (The server ends a
/// session that takes nothing for 10 s: a stuck listener would hold back VACUUM and fill the
/// notification queue, and then the game's commits fail.)
const SETTINGS: [(&str, &str); 8] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// An answer that does not come within this time means that the link is half-open.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// LISTEN and what belongs to it: eight small queries, over a slow link.
const PREPARED_WITHIN: Duration = Duration::from_secs(10);
/// A catch-up may have millions of rows to find.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
/// Rows of the outbox looked at to fill the memory: as many as a client may miss by default. Ten
/// times as many take a second, and a link that breaks more often than that would never be live.
const RECENT_ROWS: i64 = 10_000;

/// A commit without a wait is flushed within three times `wal_writer_delay`, 0.6 s (PostgreSQL,
/// "Asynchronous Commit"). Where that was raised, a stream that begins is worth more than the rest.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// What kind of database this is: two connections with equal identities share one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    system: String,
    timeline: i32,
}

impl Identity {
    /// The timeline: it rises with every failover and point-in-time recovery.
    pub(super) fn timeline(&self) -> i32 {
        self.timeline
    }
}

/// A connection on which LISTEN has been acknowledged. Only such a one can catch up: a query
/// before LISTEN, or in one transaction with it, loses what commits in between.
#[derive(Debug)]
pub(super) struct Listening {
    session: Session,
    inbox: Arc<Inbox>,
    pump: AbortHandle,
    poll: Ask,
    rounds: Ask,
    pub(super) identity: Identity,
    /// Whether any attached table notified at all when the connection was made.
    pub(super) notifies: bool,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Listening {
    /// Connects, checks that the database is ours to listen to, and listens.
    pub(super) async fn start(
        target: &PgTarget,
        node: u64,
        shutdown: &Shutdown,
    ) -> Result<Self, CaptureError> {
        let link = client::connect(target, "listen", &SETTINGS).await?;
        let inbox = Arc::new(Inbox::new(node));
        let pump = shutdown.spawn(pump(link.messages, Arc::clone(&inbox))).abort_handle();
        let listening = async {
            Self::prepare(Session::new(link.client).await?, node, inbox, pump.clone()).await
        };
        within(PREPARED_WITHIN, listening).await.inspect_err(|_| pump.abort())
    }

    async fn prepare(
        session: Session,
        node: u64,
        inbox: Arc<Inbox>,
        pump: AbortHandle,
    ) -> Result<Self, CaptureError> {
        let identity = identity(&session).await?;
        let notifies = notifies(&session).await?.ok_or(CaptureError::NothingAttached)?;
        if !session.is_own() {
            tracing::warn!("the LISTEN connection leads through a pooler: see whether it hears");
        }
        // Each a transaction of its own, acknowledged before anything is read.
        session.run(&format!("listen {CHANNEL}")).await?;
        session.run(&format!("listen {PROBE_CHANNEL}")).await?;
        session.run(&notify(Word::Greeting(node))).await?;
        let poll = session.prepare(include_str!("../../sql/poll.sql")).await?;
        let rounds = session.prepare(include_str!("../../sql/rounds_by_id.sql")).await?;
        Ok(Self { session, inbox, pump, poll, rounds, identity, notifies })
    }

    /// Whether no pooler stands between.
    pub(super) fn is_own(&self) -> bool {
        self.session.is_own()
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Says something to the other nodes.
    pub(super) async fn say(&self, word: Word) -> Result<(), CaptureError> {
        within(ANSWER_WITHIN, self.session.run(&notify(word))).await
    }

    /// Whether other nodes stream this database.
    pub(super) async fn others(&self) -> Result<bool, CaptureError> {
        within(ANSWER_WITHIN, company::others(&self.session)).await
    }

    /// Whether a row of the outbox is there.
    pub(super) async fn has(&self, row: Recorded) -> Result<bool, CaptureError> {
        let (Xid(xid), RoundId(round)) = row.finish;
        let xid = xid.cast_signed();
        let parameters: [Parameter<'_>; 3] =
            [(&xid, Type::INT8), (&round, Type::INT8), (&row.at, Type::INT8)];
        let query = self.session.query_one(include_str!("../../sql/recorded.sql"), &parameters);
        Ok(within(ANSWER_WITHIN, query).await?.try_get("recorded")?)
    }

    /// Whether any attached table notifies by now.
    pub(super) async fn notifies(&self) -> Result<bool, CaptureError> {
        Ok(within(ANSWER_WITHIN, notifies(&self.session)).await?.unwrap_or(false))
    }

    /// What is over by now.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, CaptureError> {
        let query = self.session.query_one("select pg_current_snapshot()::text", &[]);
        let row = within(ANSWER_WITHIN, query).await?;
        Ok(row.try_get::<_, &str>(0)?.parse()?)
    }

    /// Whether the outbox still tells all that happened since what a snapshot has seen: it is of the
    /// same history, no copy from before that, and retention has trimmed nothing since.
    pub(super) async fn continues(
        &self,
        identity: &Identity,
        seen: &Snapshot,
    ) -> Result<bool, CaptureError> {
        Ok(self.identity == *identity
            && !self.snapshot().await?.is_before(seen)
            && self.trimmed().await? < seen.xmin())
    }

    /// The database's clock, in microseconds since the epoch.
    pub(super) async fn now(&self) -> Result<i64, CaptureError> {
        let query = self.session.query_one("select datastream.micros(clock_timestamp())", &[]);
        Ok(within(ANSWER_WITHIN, query).await?.try_get(0)?)
    }

    /// Waits until a crash takes nothing back of what a snapshot sees, since the next connection may
    /// have to begin there (C4); says whether that is so.
    pub(super) async fn is_flushed(&self, seen: &Seen) -> Result<bool, CaptureError> {
        let begun = Instant::now();
        while self.flushed().await? < seen.inserted {
            if begun.elapsed() > FLUSHED_WITHIN {
                return Ok(false);
            }
            tokio::time::sleep(POLL_ACTIVE).await;
        }
        Ok(true)
    }

    /// How far PostgreSQL has written its log so that a crash leaves it.
    async fn flushed(&self) -> Result<Lsn, CaptureError> {
        let query = "select (pg_current_wal_flush_lsn() - '0/0')::bigint";
        let row = within(ANSWER_WITHIN, self.session.query_one(query, &[])).await?;
        Ok(Lsn(row.try_get(0)?))
    }

    /// What has been committed since `saved`, if it is no more than a page.
    pub(super) async fn poll(&self, saved: &Snapshot) -> Result<Poll, CaptureError> {
        let (saved, begun) = (saved.to_string(), Instant::now());
        let parameters: [Parameter<'_>; 2] = [(&saved, Type::TEXT), (&PAGE_ROWS, Type::INT8)];
        let rows = within(ANSWER_WITHIN, self.session.ask(&self.poll, &parameters)).await?;
        Poll::read(&rows, begun)
    }

    /// A page of the same, where there may be much.
    pub(super) async fn page(
        &self,
        saved: &Snapshot,
        bounds: &Bounds,
    ) -> Result<Poll, CaptureError> {
        let (saved, begun) = (saved.to_string(), Instant::now());
        let until = bounds.until.as_ref().map(Snapshot::to_string);
        let (Xid(xid), RoundId(round)) = bounds.after;
        let xid = xid.cast_signed();
        let parameters: [Parameter<'_>; 5] = [
            (&saved, Type::TEXT),
            (&until, Type::TEXT),
            (&xid, Type::INT8),
            (&round, Type::INT8),
            (&PAGE_ROWS, Type::INT8),
        ];
        let query = self.session.query(include_str!("../../sql/page.sql"), &parameters);
        Poll::read(&within(CATCH_UP_WITHIN, query).await?, begun)
    }

    /// Finished rounds by id; those that are gone are missing.
    pub(super) async fn rounds(&self, ids: &[RoundId]) -> Result<Vec<DecodedRound>, CaptureError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let parameters: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
        let rows = within(CATCH_UP_WITHIN, self.session.ask(&self.rounds, &parameters)).await?;
        let now = UnixMillis::now();
        rows.iter().map(|row| Ok(round(row, now)?)).collect()
    }

    /// The recent rounds of every game that the snapshot sees, and the transaction up to which
    /// some may be missing.
    pub(super) async fn recent(
        &self,
        snapshot: &Snapshot,
        per_game: i64,
    ) -> Result<(Vec<Captured>, Xid), CaptureError> {
        let query = include_str!("../../sql/recent.sql");
        let snapshot = snapshot.to_string();
        let parameters: [Parameter<'_>; 3] =
            [(&snapshot, Type::TEXT), (&per_game, Type::INT8), (&RECENT_ROWS, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let now = UnixMillis::now();
        let floor = rows.first().map(|row| row.try_get::<_, Option<i64>>("floor"));
        let floor = Xid(floor.transpose()?.flatten().unwrap_or(0).cast_unsigned());
        let captured = rows.iter().map(|row| captured(row, now));
        let captured = captured.collect::<Result<Vec<_>, _>>()?;
        Ok((captured.into_iter().flatten().collect(), floor))
    }

    /// The last transaction whose rounds retention has trimmed.
    pub(super) async fn trimmed(&self) -> Result<Xid, CaptureError> {
        let query = self.session.query_one(include_str!("../../sql/trimmed.sql"), &[]);
        let row = within(ANSWER_WITHIN, query).await?;
        Ok(Xid(row.try_get::<_, i64>("xid")?.cast_unsigned()))
    }

    /// The latest round of every game.
    pub(super) async fn latest(&self) -> Result<Vec<Round>, CaptureError> {
        self.read(include_str!("../../sql/latest_by_game.sql"), &[]).await
    }

    /// Rounds that finished at this moment or later, by the game's clock.
    pub(super) async fn finished_since(&self, micros: i64) -> Result<Vec<Round>, CaptureError> {
        self.read(include_str!("../../sql/finished_since.sql"), &[(&micros, Type::INT8)]).await
    }

    /// The same, by id and moment alone.
    pub(super) async fn moments_since(
        &self,
        micros: i64,
    ) -> Result<Vec<(RoundId, FinishedAt)>, CaptureError> {
        let query = include_str!("../../sql/moments_since.sql");
        let parameters: [Parameter<'_>; 1] = [(&micros, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let moments = rows.iter().map(|row| {
            let round = RoundId(row.try_get("round_id")?);
            Ok(FinishedAt::from_micros(row.try_get("finished_micros")?).map(|at| (round, at)))
        });
        Ok(moments.collect::<Result<Vec<_>, CaptureError>>()?.into_iter().flatten().collect())
    }

    /// Those of these rounds that the outbox had recorded by a moment.
    pub(super) async fn recorded_by(
        &self,
        moment: i64,
        ids: &[RoundId],
    ) -> Result<HashSet<RoundId>, CaptureError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let query = include_str!("../../sql/recorded_by.sql");
        let parameters: [Parameter<'_>; 2] = [(&ids, Type::INT8_ARRAY), (&moment, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        rows.iter().map(|row| Ok(RoundId(row.try_get(0)?))).collect()
    }

    async fn read(
        &self,
        query: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Round>, CaptureError> {
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, parameters)).await?;
        let now = UnixMillis::now();
        let rounds = rows.iter().map(|row| round(row, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(rounds.into_iter().filter_map(Result::ok).collect())
    }

    /// All games.
    pub(super) async fn games(&self) -> Result<Vec<Game>, CaptureError> {
        let query = self.session.query(include_str!("../../sql/games.sql"), &[]);
        let rows = within(CATCH_UP_WITHIN, query).await?;
        rows.iter().map(|row| Ok(game(row)?)).collect()
    }
}

/// The statement that says something to all nodes. (A word holds digits and letters.)
pub(super) fn notify(word: Word) -> String {
    format!("notify {PROBE_CHANNEL}, '{}'", word.text())
}

pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, CaptureError>>,
) -> Result<T, CaptureError> {
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(CaptureError::Silent(limit)))
}

async fn identity(session: &Session) -> Result<Identity, CaptureError> {
    let row = session.query_one(include_str!("../../sql/state.sql"), &[]).await?;
    if row.try_get("in_recovery")? {
        return Err(CaptureError::Standby);
    }
    if !row.try_get::<_, bool>("has_schema")? {
        return Err(CaptureError::NoSchema);
    }
    Ok(Identity { system: row.try_get("system_identifier")?, timeline: row.try_get("timeline")? })
}

/// `None` where no table is attached.
async fn notifies(session: &Session) -> Result<Option<bool>, CaptureError> {
    let row = session.query_one(include_str!("../../sql/attached.sql"), &[]).await?;
    let count = |mode| row.try_get::<_, i64>(mode);
    let notifies = count("auto")? + count("notify")? > 0;
    Ok((count("attached")? > 0).then_some(notifies))
}
