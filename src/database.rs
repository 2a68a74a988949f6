//! The pool for queries, and single connections for migrations: sqlx, configured from a
//! [`PgTarget`].
//!
//! Two of libpq's promises cannot be kept here, for want of a way to say them to sqlx: a given
//! `sslrootcert` is trusted beside the system's authorities instead of in their place, and
//! `channel_binding=require` holds on the LISTEN connection only.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::pg_target::{PgHost, PgTarget, SslMode, hint};

/// A query may wait this long for a free connection before its client is told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pool's queries read at most a few thousand rows by index: more than this is a fault.
const STATEMENT_TIMEOUT: &str = "10s";
/// Our reads take no lock that could wait, but for DDL at work.
const LOCK_TIMEOUT: &str = "2s";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Nobody answered, or the server said no.
    #[error("cannot connect to {target}{hint}")]
    Refused {
        /// Which server and database.
        target: String,
        /// What to do, in parentheses, where that is known.
        hint: String,
        /// What the server or the system said.
        source: sqlx::Error,
    },
    /// The server took the connection and was silent, or packets are dropped on the way.
    #[error("cannot connect to {target}: no answer within {} (connect_timeout)", humantime::format_duration(*after))]
    Silent {
        /// Which server and database.
        target: String,
        /// How long we waited.
        after: Duration,
    },
}

impl DatabaseError {
    /// PostgreSQL's error code, if it was PostgreSQL that refused.
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Refused { source, .. } => {
                source.as_database_error()?.code().map(|code| code.into_owned())
            }
            Self::Silent { .. } => None,
        }
    }
}

/// A pool of at most `max` connections to the first of the target's hosts that answers, with one
/// connection made. `application_name` becomes `datastream` and the word given: `query`.
pub async fn pool(target: &PgTarget, used_for: &str, max: u32) -> Result<PgPool, DatabaseError> {
    let (connection, options) = reach(target, used_for, &query_settings()).await?;
    let _closed = connection.close().await;
    Ok(PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// A pool of at most `max` connections that connects when it is first used, whether or not the
/// database is there now. It asks the first of the target's hosts until [`follow`] finds another.
pub fn lazy_pool(target: &PgTarget, used_for: &str, max: u32) -> Option<PgPool> {
    let options = options(target, target.candidates().first()?, used_for, &query_settings());
    let pool = PgPoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_TIMEOUT);
    Some(pool.connect_lazy_with(options))
}

/// Points a pool at the first host that answers now: after a failover that may be another one.
pub async fn follow(pool: &PgPool, target: &PgTarget, used_for: &str) -> Result<(), DatabaseError> {
    let (connection, options) = reach(target, used_for, &query_settings()).await?;
    let _closed = connection.close().await;
    pool.set_connect_options(options);
    Ok(())
}

/// One connection of its own, with these settings and those of the target.
pub async fn connect(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<PgConnection, DatabaseError> {
    reach(target, used_for, settings).await.map(|(connection, _)| connection)
}

fn query_settings() -> [(&'static str, &'static str); 3] {
    [
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
    ]
}

async fn reach(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<(PgConnection, PgConnectOptions), DatabaseError> {
    let mut last = None;
    for host in target.candidates() {
        let options = options(target, host, used_for, settings);
        match tokio::time::timeout(target.connect_timeout, open(target, &options)).await {
            Ok(Ok(connection)) => return Ok((connection, options)),
            Ok(Err(error)) => last = Some(refused(target, error)),
            Err(_) => last = Some(silent(target)),
        }
    }
    Err(last.unwrap_or_else(|| silent(target)))
}

async fn open(target: &PgTarget, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    if target.read_write {
        let read_only: String =
            sqlx::query_scalar("show transaction_read_only").fetch_one(&mut connection).await?;
        if read_only == "on" {
            return Err(sqlx::Error::Configuration("this server only reads".into()));
        }
    }
    Ok(connection)
}

fn options(
    target: &PgTarget,
    host: &PgHost,
    used_for: &str,
    settings: &[(&str, &str)],
) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&host_name(target, host))
        .port(host.port)
        .username(&target.user)
        .database(&target.database)
        .application_name(&target.application_name(used_for))
        // Poolers refuse this one, and no query of ours reads a float.
        .extra_float_digits(None)
        .options(settings.iter().copied())
        .options(target.options.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .options([("default_transaction_isolation", "read committed")])
        .ssl_mode(ssl_mode(target.tls.mode, host));
    if let Some(password) = &host.password {
        options = options.password(password.reveal());
    }
    if let Some(file) = &target.tls.roots {
        options = options.ssl_root_cert(file);
    }
    if let Some((certificate, key)) = &target.tls.identity {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    options
}

/// sqlx connects to the very name that it verifies: `hostaddr` is used where none is verified.
fn host_name(target: &PgTarget, host: &PgHost) -> String {
    match host.address {
        Some(address) if target.tls.mode != SslMode::VerifyFull => address.to_string(),
        _ => host.name.clone(),
    }
}

fn ssl_mode(mode: SslMode, host: &PgHost) -> PgSslMode {
    match mode {
        // PostgreSQL has no TLS on sockets, and libpq ignores sslmode there.
        _ if host.socket().is_some() => PgSslMode::Disable,
        SslMode::Disable => PgSslMode::Disable,
        // sqlx's own `Allow` never encrypts.
        SslMode::Allow | SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

fn refused(target: &PgTarget, source: sqlx::Error) -> DatabaseError {
    let code = source.as_database_error().and_then(|error| error.code());
    let hint = hint(code.as_deref());
    DatabaseError::Refused { target: target.to_string(), hint, source }
}

fn silent(target: &PgTarget) -> DatabaseError {
    DatabaseError::Silent { target: target.to_string(), after: target.connect_timeout }
}
