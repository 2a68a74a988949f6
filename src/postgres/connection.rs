//! Single sqlx connections, and the options of the pool, configured from a [`PgTarget`].
//!
//! sqlx has no options for two features of libpq: a given `sslrootcert` is trusted in addition to
//! the system's authorities instead of alone, and `channel_binding=require` applies to the LISTEN
//! connection only. A connection may lead through a pooler that shares the server's sessions.

use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::postgres::{
    session_settings::{NO_LATER_TIMEOUTS, SessionSettings},
    sqlstate::{NO_HBA_ENTRY, POOLER_REFUSED},
    target::{ConnectError, PgHost, PgTarget, SslMode},
};

/// A single connection with these settings and those of the target.
pub(crate) async fn connect(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<PgConnection, ConnectError> {
    let (mut connection, _) = reach(target, used_for, settings).await?;
    let set = sqlx::raw_sql(NO_LATER_TIMEOUTS).execute(&mut connection).await;
    set.map_err(|error| connect_error(target, &error))?;
    Ok(connection)
}

pub(super) async fn reach(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<(PgConnection, PgConnectOptions), ConnectError> {
    let mut last = None;
    for host in target.candidates() {
        let attempt = to_host(target, host, used_for, settings);
        match tokio::time::timeout(target.connect_timeout, attempt).await {
            Ok(Ok(reached)) => return Ok(reached),
            Ok(Err(error)) => last = Some(connect_error(target, &error)),
            Err(_) => last = Some(ConnectError::timed_out(target)),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::timed_out(target)))
}

/// Tries again without the settings if a pooler refuses them, or without TLS if `sslmode` allows it.
async fn to_host(
    target: &PgTarget,
    host: &PgHost,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
    let ours = SessionSettings::of(target, settings).at_start();
    let first = options(target, host, used_for).options(ours);
    let error = match open(target, &first).await {
        Ok(connection) => return Ok((connection, first)),
        Err(error) => error,
    };
    let second = match code(&error).as_deref() {
        Some(POOLER_REFUSED) => options(target, host, used_for),
        code if optional(target) && (code == Some(NO_HBA_ENTRY) || is_tls(&error)) => {
            first.ssl_mode(PgSslMode::Disable)
        }
        _ => return Err(error),
    };
    tracing::debug!(error = reason(&error), "retrying with other connection options");
    open(target, &second).await.map(|connection| (connection, second))
}

fn optional(target: &PgTarget) -> bool {
    matches!(target.tls.mode, SslMode::Allow | SslMode::Prefer)
}

fn is_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        error => matches!(error, sqlx::Error::Tls(_)),
    }
}

async fn open(target: &PgTarget, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    if matches_session_attrs(target, &mut connection).await? {
        return Ok(connection);
    }
    Err(sqlx::Error::Configuration("the server is read-only".into()))
}

/// Whether the server matches `target_session_attrs`.
pub(super) async fn matches_session_attrs(
    target: &PgTarget,
    connection: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    if !target.read_write {
        return Ok(true);
    }
    Ok(query_text(connection, "show transaction_read_only").await? == "off")
}

pub(super) fn options(target: &PgTarget, host: &PgHost, used_for: &str) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&host_name(target, host))
        .port(host.port)
        .username(&target.user)
        .database(&target.database)
        .application_name(&target.application_name(used_for))
        // The callers log errors; sqlx would log whole statements.
        .disable_statement_logging()
        // Poolers refuse it as a parameter of its own. It is among the session's settings.
        .extra_float_digits(None)
        .ssl_mode(ssl_mode(target.tls.mode, host));
    if let Some(password) = target.password(host) {
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

/// sqlx connects to the name that it verifies, so `hostaddr` is used only if no name is verified.
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

pub(super) fn connect_error(target: &PgTarget, error: &sqlx::Error) -> ConnectError {
    ConnectError::new(target, code(error).as_deref(), reason(error))
}

/// PostgreSQL's error code, if the error is PostgreSQL's.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// The message of the server or the system, without sqlx's prefix.
pub(crate) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) | sqlx::Error::Configuration(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Uses the simple query protocol, which prepares nothing.
pub(super) async fn query_text(
    connection: &mut PgConnection,
    sql: &'static str,
) -> Result<String, sqlx::Error> {
    use sqlx::Row;
    sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)
}

#[cfg(test)]
mod tests;
