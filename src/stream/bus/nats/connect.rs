//! Connects to NATS. An absent server is waited for; refused credentials are an error.

use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};

use super::options::BusConfig;
use crate::ops::{backoff::Backoff, telemetry::metrics::Metrics};

/// Atomic batches recognize repetitions since this version (ADR-50).
const OLDEST: (i64, i64, i64) = (2, 12, 1);
/// No answer within this time: the connection is tried again.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A server that is cut off is noticed after two of these.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Rounds that one subscription may hold before it loses some, which a direct get then fills.
const QUEUE: usize = 65_536;

/// Why the bus cannot be used. All but `Unavailable` end the program at its start.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// NATS does not answer.
    #[error("NATS does not answer: {0}")]
    Unavailable(String),
    /// NATS refuses the credentials.
    #[error(
        "NATS refuses the credentials: {0}. Correct the user and password in DATASTREAM_BUS, or set \
         DATASTREAM_BUS_CREDS."
    )]
    Refused(String),
    /// NATS refuses an action.
    #[error("NATS refuses this user an action: {0}. Grant the permissions of docs/scale-out.md.")]
    Forbidden(String),
    /// NATS has no JetStream.
    #[error("NATS runs without JetStream. Start nats-server with -js, or enable it in its file.")]
    NoJetStream,
    /// A file of the options cannot be read.
    #[error("cannot read {path}: {reason}. Correct {option}.")]
    File {
        /// Its path.
        path: String,
        /// The error.
        reason: String,
        /// The option that names it.
        option: &'static str,
    },
    /// The server is too old.
    #[error("NATS {0} is too old: atomic batches need 2.12.1. Upgrade nats-server.")]
    Old(String),
    /// The stream does not exist.
    #[error("NATS has no stream {0}. Run: datastream bus create")]
    NoStream(String),
    /// The stream has settings that lose rounds.
    #[error("the stream {stream} would lose rounds: {reason}. Run: datastream bus check")]
    WrongStream {
        /// Its name.
        stream: String,
        /// The setting.
        reason: String,
    },
    /// A message of the log cannot be read.
    #[error("cannot read a message of the log: {0}. Upgrade this program.")]
    Unreadable(String),
    /// NATS answered with an error.
    #[error("NATS answered: {0}")]
    Answer(String),
}

impl BusError {
    /// Whether waiting may fix it.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Answer(_))
    }
}

/// Connects, waiting for as long as NATS is absent.
pub(crate) async fn connect(options: &BusConfig, metrics: &Metrics) -> Result<Client, BusError> {
    let (mut backoff, mut reported) = (Backoff::default(), false);
    loop {
        match connect_once(options, metrics).await {
            Err(BusError::Unavailable(reason)) => {
                if !reported {
                    tracing::warn!(%reason, "NATS does not answer; trying again");
                    reported = true;
                }
                tokio::time::sleep(backoff.delay()).await;
            }
            other => return other,
        }
    }
}

/// Connects, or fails at once.
pub(crate) async fn connect_once(
    options: &BusConfig,
    metrics: &Metrics,
) -> Result<Client, BusError> {
    let connecting = connect_options(options, metrics).await?;
    let servers = options.url.servers.clone();
    let client = connecting.connect(servers).await.map_err(|error| refusal(&error))?;
    let server = client.server_info();
    if !client.is_server_compatible(OLDEST.0, OLDEST.1, OLDEST.2) {
        return Err(BusError::Old(server.version));
    }
    // A leaf node without JetStream reaches that of its hub by the domain.
    if !server.jetstream && options.domain.is_none() {
        return Err(BusError::NoJetStream);
    }
    Ok(client)
}

fn refusal(error: &ConnectError) -> BusError {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            BusError::Refused(error.to_string())
        }
        _ => BusError::Unavailable(error.to_string()),
    }
}

async fn connect_options(
    options: &BusConfig,
    metrics: &Metrics,
) -> Result<ConnectOptions, BusError> {
    let mut connecting = ConnectOptions::new()
        .name(format!("datastream {}", options.node))
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING_EVERY)
        .subscription_capacity(QUEUE)
        .reconnect_delay_callback(|attempt| {
            let step = Duration::from_millis(20).saturating_mul(1 << attempt.min(6) as u32);
            step.mul_f64(0.5 + fastrand::f64() / 2.0)
        });
    let metrics = metrics.clone();
    connecting = connecting.event_callback(move |event| {
        report(&event, &metrics);
        std::future::ready(())
    });
    if let Some((user, password)) = &options.url.user {
        connecting = connecting.user_and_password(user.clone(), password.clone());
    }
    if let Some(ca) = &options.ca {
        connecting = connecting.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.certificate {
        connecting = connecting.add_client_certificate(certificate.clone(), key.clone());
    }
    let Some(creds) = &options.creds else { return Ok(connecting) };
    connecting.credentials_file(creds).await.map_err(|error| BusError::File {
        path: creds.display().to_string(),
        reason: error.to_string(),
        option: "DATASTREAM_BUS_CREDS",
    })
}

/// Counts and logs what happens to the connection after its start.
fn report(event: &Event, metrics: &Metrics) {
    match event {
        Event::Connected => {
            metrics.bus.connected.set(1);
        }
        Event::Closed => {
            metrics.bus.connected.set(0);
        }
        Event::Disconnected => {
            metrics.bus.connected.set(0);
            tracing::warn!("the connection to NATS ended; connecting again");
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            metrics.bus.unauthorized_total.inc();
            tracing::error!("NATS refuses the credentials of this server now");
        }
        Event::ServerError(ServerError::Other(text)) if text.contains("Permissions Violation") => {
            metrics.bus.unauthorized_total.inc();
            tracing::error!(%text, "NATS refuses this server an action");
        }
        other => tracing::debug!(event = %other, "NATS"),
    }
}
