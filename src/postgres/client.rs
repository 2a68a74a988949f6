//! Opens connections that outlive a query, above all that for LISTEN: tries hosts in order, with TLS by libpq's `sslmode` and a timeout.

mod tls;

use std::{error::Error as _, io, pin::Pin, task::Poll};

use futures_util::{Stream, stream::poll_fn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error,
    config::{self, TargetSessionAttrs},
    error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(crate) use crate::postgres::target::ConnectError;
use crate::postgres::{
    session_settings::{Access, SessionSettings},
    sqlstate::POOLER_REFUSED,
    target::{ChannelBinding, PgHost, PgTarget, SslMode, escape_option},
};

/// A connection whose messages the caller polls. Queries get their answers only while the caller
/// polls `messages`. Dropping `client` ends the connection.
pub(crate) struct Link {
    /// Sends queries.
    pub(crate) client: Client,
    /// Drives the connection. Yields notifications and notices in the order of arrival.
    pub(crate) messages: Messages,
}

/// Notifications and notices.
pub(crate) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;

/// Unless the connection string has others.
const PREFERRED: [(&str, &str); 2] =
    [("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "30s")];

/// Connects to the first host of the target that answers. `application_name` becomes `datastream`
/// and `used_for`, such as `listen`. The settings apply to the session if `OWN` is set in it.
pub(crate) async fn connect(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<Link, ConnectError> {
    reach(target, used_for, Some(settings)).await
}

/// Connects without our settings, to send a notification.
pub(crate) async fn connect_to_send(
    target: &PgTarget,
    used_for: &str,
) -> Result<Link, ConnectError> {
    reach(target, used_for, None).await
}

async fn reach(
    target: &PgTarget,
    used_for: &str,
    settings: Option<&[(&str, &str)]>,
) -> Result<Link, ConnectError> {
    let tls =
        tls::connector(&target.tls).map_err(|reason| ConnectError::new(target, None, reason))?;
    let mut last = None;
    for host in target.candidates() {
        let plain = config(target, host, used_for);
        let attempt = with_settings(plain, settings.map(|ours| session(target, host, ours)), &tls);
        // libpq's connect_timeout, too, covers the whole handshake with one host.
        match tokio::time::timeout(target.connect_timeout, attempt).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => last = Some(connect_error(target, &error)),
            Err(_) => last = Some(ConnectError::timed_out(target)),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::timed_out(target)))
}

/// Tries again without the settings if a pooler refuses them.
async fn with_settings(
    plain: Config,
    settings: Option<String>,
    tls: &MakeRustlsConnect,
) -> Result<Link, Error> {
    let Some(settings) = settings else { return to_host(plain, tls).await };
    let mut config = plain.clone();
    config.options(settings);
    match to_host(config, tls).await {
        Err(error) if error.code().is_some_and(|code| code.code() == POOLER_REFUSED) => {
            tracing::debug!(%error, "retrying without session settings");
            to_host(plain, tls).await
        }
        outcome => outcome,
    }
}

async fn to_host(mut config: Config, tls: &MakeRustlsConnect) -> Result<Link, Error> {
    match open(&config, tls).await {
        Err(error) if optional(config.get_ssl_mode()) && without_tls_may_help(&error) => {
            tracing::debug!(%error, "TLS failed, retrying without, as sslmode allows");
            open(config.ssl_mode(config::SslMode::Disable), tls).await
        }
        outcome => outcome,
    }
}

async fn open(config: &Config, tls: &MakeRustlsConnect) -> Result<Link, Error> {
    let (client, connection) = config.connect(tls.clone()).await?;
    Ok(Link { client, messages: messages(connection) })
}

/// Ends after an error: a connection that is polled again returns the same error for ever.
fn messages<S, T>(connection: Connection<S, T>) -> Messages
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = Some(connection);
    Box::pin(poll_fn(move |context| {
        let Some(open) = &mut connection else { return Poll::Ready(None) };
        let message = open.poll_message(context);
        if matches!(message, Poll::Ready(None | Some(Err(_)))) {
            connection = None;
        }
        message
    }))
}

fn config(target: &PgTarget, host: &PgHost, used_for: &str) -> Config {
    let mut config = Config::new();
    config
        .user(&target.user)
        .dbname(&target.database)
        .application_name(target.application_name(used_for))
        .port(host.port)
        .connect_timeout(target.connect_timeout)
        .channel_binding(channel_binding(target.channel_binding))
        .ssl_mode(ssl_mode(target.tls.mode, host))
        .keepalives(target.keepalives.is_some());
    match host.socket() {
        Some(directory) => config.host_path(directory),
        None => config.host(&host.name),
    };
    if let Some(address) = host.address {
        config.hostaddr(address);
    }
    if let Some(password) = target.password(host) {
        config.password(password.reveal());
    }
    if target.read_write {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    set_keepalives(&mut config, target);
    config
}

fn set_keepalives(config: &mut Config, target: &PgTarget) {
    if let Some(keepalives) = target.keepalives {
        config
            .keepalives_idle(keepalives.idle)
            .keepalives_interval(keepalives.interval)
            .keepalives_retries(keepalives.count);
    }
    if !target.tcp_user_timeout.is_zero() {
        config.tcp_user_timeout(target.tcp_user_timeout);
    }
}

/// The session's settings. `tcp_user_timeout` is set on the server, too: a dead listener that it
/// keeps holds back vacuum and fills the notification queue, until commits fail.
fn session(target: &PgTarget, host: &PgHost, ours: &[(&str, &str)]) -> String {
    let timeout = target.tcp_user_timeout.as_millis().to_string();
    let mut preferred = PREFERRED.to_vec();
    if host.socket().is_none() {
        preferred.push(("tcp_user_timeout", &timeout));
    }
    let settings = SessionSettings::insisting(target, &preferred, ours).at_start();
    let switch = |(name, value): (&str, &str)| format!("-c {name}={}", escape_option(value));
    settings.into_iter().map(switch).collect::<Vec<_>>().join(" ")
}

/// The statements that begin a transaction with these settings, in a session that a pooler shares.
pub(crate) fn begin(target: &PgTarget, ours: &[(&str, &str)]) -> String {
    SessionSettings::insisting(target, &PREFERRED, ours).begin(Access::Read)
}

fn ssl_mode(mode: SslMode, host: &PgHost) -> config::SslMode {
    match mode {
        // PostgreSQL has no TLS on sockets, and libpq ignores sslmode there.
        _ if host.socket().is_some() => config::SslMode::Disable,
        SslMode::Disable => config::SslMode::Disable,
        SslMode::Allow | SslMode::Prefer => config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
    }
}

fn channel_binding(binding: ChannelBinding) -> config::ChannelBinding {
    match binding {
        ChannelBinding::Disable => config::ChannelBinding::Disable,
        ChannelBinding::Prefer => config::ChannelBinding::Prefer,
        ChannelBinding::Require => config::ChannelBinding::Require,
    }
}

fn optional(mode: config::SslMode) -> bool {
    matches!(mode, config::SslMode::Prefer)
}

/// As libpq: after a failed handshake, or if pg_hba.conf has no entry for encrypted connections.
fn without_tls_may_help(error: &Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<rustls::Error>())
        || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

fn connect_error(target: &PgTarget, error: &Error) -> ConnectError {
    if let Some(said) = error.as_db_error() {
        return ConnectError::new(target, Some(said.code().code()), said.message());
    }
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let refused = ConnectError::new(target, None, reason);
    // A missing password, or no common authentication method.
    match error.to_string().as_str() {
        "invalid configuration" | "authentication error" => refused.permanent(),
        _ => refused,
    }
}

#[cfg(test)]
mod tests;
