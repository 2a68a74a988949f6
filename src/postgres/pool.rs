//! The pool for queries.
//!
//! It may lead through a pooler that gives each transaction another session of the server (PgBouncer
//! in transaction mode). Named prepared statements, which sqlx uses, do not survive there: the next
//! transaction misses them, or finds another client's statement of the same name. The pooler also
//! refuses or ignores settings of the session. So each query then runs in its own transaction, which
//! leaves nothing behind. That takes three times as long as a prepared query (2.2 ms instead of
//! 0.8 ms, a round list in a debug build), so it is done only behind a pooler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgPoolOptions, PgRow},
    query::Query,
};

use super::{
    connection::{code, matches_session_attrs, options, reach},
    pooler,
    session_settings::{Access, NO_LATER_TIMEOUTS, NO_SEARCH_PATH, SessionSettings},
    sqlstate::{BAD_PASSWORD, POOLER_REFUSED},
};
use crate::postgres::target::{ConnectError, PgTarget};

/// The limit for a free connection. After it, the client gets 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of each session or transaction, unless the connection string sets them. The queries
/// read at most a few thousand rows by index: more than ten seconds is a fault. Only DDL can make
/// them wait for a lock.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // For the reason given in `doctor`.
    ("jit", "off"),
];

/// Our queries are written for one plan of all values. To plan them again takes longer than to run them: 2 to 8 ms for a page of a
/// list, which takes 0.4 ms.
const ONE_PLAN: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// Not checked yet for the current host.
const UNKNOWN: u8 = 0;
/// Each connection has its own session.
const DEDICATED: u8 = 1;
/// A pooler may give each transaction another one.
const SHARED: u8 = 2;

/// Connections for queries, opened on first use. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    connections: PgPool,
    target: PgTarget,
    used_for: &'static str,
    /// The settings of each session.
    settings: Arc<[(&'static str, &'static str)]>,
    access: Access,
    sessions: Arc<AtomicU8>,
}

impl Pool {
    /// At most `max` connections to the first host of the target. The database may be down. `None`
    /// if the target names no host. `application_name` becomes `datastream` and `used_for`.
    pub(crate) fn lazy(target: &PgTarget, used_for: &'static str, max: u32) -> Option<Self> {
        Self::with(
            target,
            used_for,
            max,
            [&SETTINGS[..], &[NO_SEARCH_PATH, ONE_PLAN]].concat().into(),
        )
    }

    /// The same for the operator's own queries, which the role's `search_path` applies to.
    pub(crate) fn lazy_read_only(
        target: &PgTarget,
        used_for: &'static str,
        max: u32,
    ) -> Option<Self> {
        Self::with(target, used_for, max, SETTINGS.into())
    }

    fn with(
        target: &PgTarget,
        used_for: &'static str,
        max: u32,
        settings: Arc<[(&'static str, &'static str)]>,
    ) -> Option<Self> {
        let options = options(target, target.candidates().first()?, used_for);
        let options = options.options(SessionSettings::of(target, &settings).at_start());
        let pool = PgPoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = pool.after_connect(|connection, _| {
            Box::pin(async { sqlx::raw_sql(NO_LATER_TIMEOUTS).execute(connection).await.map(drop) })
        });
        let (target, sessions) = (target.clone(), Arc::new(AtomicU8::new(UNKNOWN)));
        let (connections, access) = (pool.connect_lazy_with(options), Access::Read);
        Some(Self { connections, target, used_for, settings, access, sessions })
    }

    /// The same for statements that write.
    pub(crate) fn writing(self) -> Self {
        Self { access: Access::Write, ..self }
    }

    /// Switches to the first host that answers: after a failover it may be another one.
    pub(crate) async fn follow(&self) -> Result<(), ConnectError> {
        let (connection, options) = reach(&self.target, self.used_for, &self.settings).await?;
        let _closed = connection.close().await;
        self.connections.set_connect_options(options);
        self.sessions.store(UNKNOWN, Ordering::Relaxed);
        Ok(())
    }

    /// The rows of a query.
    pub(crate) async fn fetch_all(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let own = self.sessions_are_own().await?;
        let mut connection = self.acquire().await?;
        if own {
            return query.fetch_all(&mut *connection).await;
        }
        let mut transaction = connection.begin_with(AssertSqlSafe(self.begin())).await?;
        let rows = query.persistent(false).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// The single row of a query.
    pub(crate) async fn fetch_one(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgRow, sqlx::Error> {
        self.fetch_all(query).await?.pop().ok_or(sqlx::Error::RowNotFound)
    }

    async fn sessions_are_own(&self) -> Result<bool, sqlx::Error> {
        if self.sessions.load(Ordering::Relaxed) == UNKNOWN {
            let mut connection = self.acquire().await?;
            let own = pooler::has_own_session(&mut connection).await?;
            self.sessions.store(if own { DEDICATED } else { SHARED }, Ordering::Relaxed);
        }
        Ok(self.sessions.load(Ordering::Relaxed) == DEDICATED)
    }

    /// A connection to a server that matches the target. Closes others: to the first of several
    /// hosts before it was checked, or from before a failover. If the target asks for a primary,
    /// the check takes a round trip for each query.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        for _ in 0..=self.connections.options().get_max_connections() {
            let mut connection = self.acquire_any().await?;
            if matches_session_attrs(&self.target, &mut connection).await? {
                return Ok(connection);
            }
            // An error while closing does not matter.
            let _ = connection.close().await;
            let reconnected = self.follow().await;
            reconnected.map_err(|error| sqlx::Error::Configuration(error.into()))?;
        }
        Err(sqlx::Error::Configuration("every server is read-only".into()))
    }

    /// A connection, without settings if a pooler refuses them, and with the password that the
    /// password file has by now.
    async fn acquire_any(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.connections.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_timed_out().await),
            Err(error)
                if matches!(code(&error).as_deref(), Some(POOLER_REFUSED | BAD_PASSWORD)) =>
            {
                let _ = self.follow().await;
                self.connections.acquire().await
            }
            outcome => outcome,
        }
    }

    /// The pool goes on trying while the server has no connection to give, and does not say so.
    async fn why_timed_out(&self) -> sqlx::Error {
        let limit = humantime::format_duration(ACQUIRE_TIMEOUT);
        let most = self.connections.options().get_max_connections();
        let cause = match reach(&self.target, self.used_for, &self.settings).await {
            Err(error) => error.to_string(),
            Ok((connection, _)) => {
                let _closed = connection.close().await;
                format!("all {most} connections of this pool are in use")
            }
        };
        sqlx::Error::Configuration(format!("no connection within {limit}: {cause}").into())
    }

    /// The statements that begin a transaction in a session that a pooler shares.
    fn begin(&self) -> String {
        SessionSettings::of(&self.target, &self.settings).begin(self.access)
    }
}
