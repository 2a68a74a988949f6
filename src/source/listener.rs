//! The LISTEN connection: connects, checks the database and listens. Nothing but the capture uses it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;
use tokio_postgres::types::Type;

use super::{
    catch_up_queries::CatchUpQueries,
    error::CaptureError,
    exact_claim::{ClaimKind, ExactClaim},
    exact_server::ServerName,
    outbox_reader::OutboxReader,
    session::{ANSWER_WITHIN, Parameter, Session, within},
    wake_ups::{CHANNEL, PROBE_CHANNEL, WakeUps, receive},
};
use crate::{
    ops::shutdown::Shutdown,
    postgres::{
        client, schema_version, session_settings::NO_SEARCH_PATH, sql::sql, target::PgTarget,
    },
    stream::{
        bus::{Backend, Space},
        skipped_rounds::SkippedRounds,
        snapshot::Snapshot,
    },
};

/// The poll must use the outbox's primary key. After ANALYZE on a big outbox the generic plan
/// expects a third of the table: 1.3-5 ms for an empty poll instead of 0.11 ms.
const SETTINGS: [(&str, &str); 10] = [
    NO_SEARCH_PATH,
    ("plan_cache_mode", "force_generic_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("statement_timeout", "60s"),
    // Below deadlock_timeout (1 s): a migration of the game that takes locks on two tables, between
    // which a poll waits, must not be the victim.
    ("lock_timeout", "500ms"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// LISTEN and its preparation: ten small queries, over a slow connection.
const PREPARED_WITHIN: Duration = Duration::from_secs(10);
/// A session ends within milliseconds after it was terminated, on a busy machine later.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Two connections with equal identities share one timeline of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    system: String,
    timeline: i32,
    /// The database's oid: another one after `drop database` and `create database`.
    database: u32,
}

impl Identity {
    /// As the log has it: within it, transaction ids are comparable.
    pub(super) fn space(&self) -> Space {
        let Self { system, timeline, database } = self.clone();
        Space { system, timeline, database, generation: 0 }
    }

    /// The database whose rounds are in the log.
    pub(super) fn of_space(space: &Space) -> Self {
        let Space { system, timeline, database, .. } = space.clone();
        Self { system, timeline, database }
    }

    /// Whether the databases are different ones of one cluster.
    pub(super) fn is_another_database_of_the_same_cluster(&self, other: &Self) -> bool {
        self.system == other.system && self.database != other.database
    }

    /// The timeline: it rises with every failover and point-in-time recovery.
    pub(super) fn timeline(&self) -> i32 {
        self.timeline
    }
}

/// How many attached tables are in each capture mode that notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    auto: i64,
    notify: i64,
}

impl Modes {
    /// Whether any table notifies.
    pub(super) fn notifies(self) -> bool {
        self.auto + self.notify > 0
    }

    /// Whether suppression reaches any table.
    pub(super) fn can_be_suppressed(self) -> bool {
        self.auto > 0
    }
}

/// A connection on which LISTEN has been acknowledged. Only such a connection can catch up: a query
/// before LISTEN, or in one transaction with it, loses what commits in between.
#[derive(Debug)]
pub(super) struct Listener {
    reader: OutboxReader,
    wake_ups: Arc<WakeUps>,
    receiving: AbortHandle,
    pub(super) identity: Identity,
    pub(super) backend: Option<Backend>,
    pub(super) modes: Modes,
    skipped: Option<SkippedRounds>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

impl Listener {
    /// Connects, checks the database, takes presence and listens. `former`: this server's last
    /// backend, which may still hold presence.
    pub(super) async fn start(
        target: &PgTarget,
        (server, kind): (&ServerName, ClaimKind),
        former: Option<&Backend>,
        shutdown: &Shutdown,
    ) -> Result<(Self, ExactClaim), CaptureError> {
        let link = client::connect(target, "listen", &SETTINGS).await?;
        let wake_ups = Arc::new(WakeUps::default());
        let receiving = shutdown.spawn(receive(link.messages, Arc::clone(&wake_ups)));
        let receiving = receiving.abort_handle();
        let prepared = async {
            let session = Session::new(link.client, client::begin(target, &SETTINGS)).await?;
            let server = (server.clone(), kind);
            Self::prepare(session, server, former, wake_ups, receiving.clone()).await
        };
        within(PREPARED_WITHIN, prepared).await.inspect_err(|_| receiving.abort())
    }

    async fn prepare(
        session: Session,
        (server, kind): (ServerName, ClaimKind),
        former: Option<&Backend>,
        wake_ups: Arc<WakeUps>,
        receiving: AbortHandle,
    ) -> Result<(Self, ExactClaim), CaptureError> {
        let identity = identity(&session).await?;
        check_version(&session).await?;
        let modes = modes(&session).await?.ok_or(CaptureError::NothingAttached)?;
        end_former(&session, former).await?;
        if !session.is_own() {
            tracing::warn!(
                "the LISTEN connection leads through a pooler, which may deliver no notifications: \
                 set DATASTREAM_LISTEN_URL to the database itself"
            );
        }
        // Each a transaction of its own, acknowledged before anything is read.
        session.run(&format!("listen {CHANNEL}")).await?;
        session.run(&format!("listen {PROBE_CHANNEL}")).await?;
        let claim = ExactClaim::start(server, kind, &session).await?;
        // All servers poll now, and find that they are not alone.
        session.run(&format!("notify {CHANNEL}")).await?;
        let backend = backend(&session).await?;
        let reader = OutboxReader::new(session).await?;
        let skipped = None;
        Ok((Self { reader, wake_ups, receiving, identity, backend, modes, skipped }, claim))
    }

    pub(super) fn session(&self) -> &Session {
        self.reader.session()
    }

    pub(super) fn reader(&self) -> &OutboxReader {
        &self.reader
    }

    pub(super) fn queries(&self) -> CatchUpQueries<'_> {
        CatchUpQueries { session: self.session(), skipped: self.skipped.as_ref() }
    }

    /// Ends the session of a former leader, and waits until it holds presence no more.
    pub(super) async fn end_session(&self, backend: &Backend) -> Result<(), CaptureError> {
        end_former(self.session(), Some(backend)).await
    }

    /// Counts rounds that cannot be sent.
    pub(super) fn counting(mut self, skipped: SkippedRounds) -> Self {
        self.skipped = Some(skipped);
        self
    }

    pub(super) fn wake_ups(&self) -> &WakeUps {
        &self.wake_ups
    }

    /// The capture modes of the attached tables by now.
    pub(super) async fn read_modes(&self) -> Result<Modes, CaptureError> {
        let modes = within(ANSWER_WITHIN, modes(self.session())).await?;
        Ok(modes.unwrap_or(Modes { auto: 0, notify: 0 }))
    }

    /// Whether the outbox still has all that happened since a snapshot: it is on the same timeline,
    /// no copy from before that, and retention has deleted nothing since.
    pub(super) async fn continues(
        &self,
        identity: &Identity,
        seen: &Snapshot,
    ) -> Result<bool, CaptureError> {
        let queries = self.queries();
        Ok(self.identity == *identity
            && !queries.snapshot().await?.is_before(seen)
            && queries.trimmed().await? < seen.xmin())
    }
}

async fn identity(session: &Session) -> Result<Identity, CaptureError> {
    let row = session.query_one(sql!("state"), &[]).await?;
    if row.try_get("in_recovery")? {
        return Err(CaptureError::Standby);
    }
    if !row.try_get::<_, bool>("has_schema")? {
        return Err(CaptureError::NoSchema);
    }
    Ok(Identity {
        system: row.try_get("system_identifier")?,
        timeline: row.try_get("timeline")?,
        database: row.try_get("database")?,
    })
}

/// Whether this program can use the schema; a newer program may have changed it since the last
/// connection.
async fn check_version(session: &Session) -> Result<(), CaptureError> {
    let rows = session.query(schema_version::QUERY, &[]).await?;
    let applied: Result<Vec<(i64, bool)>, CaptureError> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("compatible")?))).collect();
    let compatibility = schema_version::compatibility(&applied?);
    match compatibility.remedy() {
        None => Ok(()),
        Some(remedy) => Err(CaptureError::SchemaVersion(format!("{compatibility}; {remedy}"))),
    }
}

/// `None` if no table is attached.
async fn modes(session: &Session) -> Result<Option<Modes>, CaptureError> {
    let row = session.query_one(sql!("attached"), &[]).await?;
    let count = |mode| row.try_get::<_, i64>(mode);
    let modes = Modes { auto: count("auto")?, notify: count("notify")? };
    Ok((count("attached")? > 0).then_some(modes))
}

/// `None` behind a pooler, whose backends are others' too, and if the start of this session's cannot be seen.
async fn backend(session: &Session) -> Result<Option<Backend>, CaptureError> {
    if !session.is_own() {
        return Ok(None);
    }
    let sql =
        "select pid, backend_start::text as start from pg_stat_get_activity(pg_backend_pid())";
    let row = session.query_one(sql, &[]).await?;
    let pid = row.try_get("pid")?;
    // Null if the role's setting `role` makes the session another role, which may not see it.
    Ok(row.try_get::<_, Option<String>>("start")?.map(|start| Backend { pid, start }))
}

/// A connection that broke may live on at the server for minutes, and hold presence: while it does, this
/// server takes itself for one of several. Ends it, and waits until it is gone.
async fn end_former(session: &Session, former: Option<&Backend>) -> Result<(), CaptureError> {
    let Some(Backend { pid, start }) = former else { return Ok(()) };
    let sql = "select pg_terminate_backend(a.pid) from pg_stat_get_activity($1) a \
        where a.backend_start::text = $2 and a.usesysid = (select oid from pg_roles where rolname = current_user)";
    let parameters: [Parameter<'_>; 2] = [(pid, Type::INT4), (start, Type::TEXT)];
    let begun = Instant::now();
    while !session.query(sql, &parameters).await?.is_empty() && begun.elapsed() < ENDS_WITHIN {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
