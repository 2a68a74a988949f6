//! `datastream doctor`: looks at everything a stream needs, and says of each what it found and
//! what to do about it. Changes nothing.

mod web_transport;

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{
    config::{
        WebTransportConfig,
        options::{ReadOnlyOptions, WebTransportOptions},
        retention,
    },
    ops::descriptors,
    postgres::{
        check::{Check, Status},
        doctor as database,
        options::{DatabaseConfig, DatabaseOptions},
        read_only::Source,
    },
    source::self_test,
};

/// Only what is printed: the rest would be told twice.
pub const LOG_FILTER: &str = "error";

/// What `doctor` can be told.
#[derive(Args, Clone, Debug)]
pub struct DoctorOptions {
    /// The database, as `serve` is told.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// As `serve` is told: then only what that takes is looked at.
    #[command(flatten)]
    pub read_only: ReadOnlyOptions,

    /// WebTransport, as `serve` is told.
    #[command(flatten)]
    pub web_transport: WebTransportOptions,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    /// As `serve` is told: how old outbox rows may be.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION")]
    #[arg(value_parser = retention, default_value = "24h")]
    pub retention: Duration,

    /// As `serve` is told: what the limit on open files must allow.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS", value_name = "CONNECTIONS")]
    #[arg(default_value = "100000")]
    pub max_connections: NonZeroUsize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing failed.
    pub ok: bool,
    /// Each thing that was looked at.
    pub checks: Vec<Check>,
}

/// Looks at it all.
pub async fn examine(
    config: &DatabaseConfig,
    web_transport: Option<&WebTransportConfig>,
    options: &DoctorOptions,
) -> Report {
    let source = options.read_only.clone().resolve().map(|config| Source::new(&config));
    let mut checks = database::examine(&config.target, options.retention, source.as_ref()).await;
    let reached =
        checks.iter().all(|check| check.name != "connection" || check.status == Status::Ok);
    if reached && source.is_none() {
        checks.extend(check_listener(config).await);
    }
    checks.extend(web_transport::check(web_transport));
    checks.push(open_files(options.max_connections.get()));
    let ok = checks.iter().all(|check| check.status != Status::Failed);
    Report { ok, checks }
}

async fn check_listener(config: &DatabaseConfig) -> Vec<Check> {
    const NAME: &str = "listener";
    let outcome = match self_test::hear_oneself(&config.listen, &config.target).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let check = Check::new(NAME, Status::Failed, format!("{}: {error}", config.listen));
            return vec![check.remedy("set DATASTREAM_LISTEN_URL to the database itself")];
        }
    };
    let delivered = match outcome.heard {
        Some(took) => {
            let says = format!("{} hears notifications, after {took:.1?}", config.listen);
            Check::new(NAME, Status::Ok, says)
        }
        None => {
            let says = format!("{} is not delivered notifications (a pooler?)", config.listen);
            Check::new(NAME, Status::Failed, says).remedy(
                "set DATASTREAM_LISTEN_URL to the database itself; DATABASE_URL may go on through \
                 the pooler",
            )
        }
    };
    vec![delivered, tcp_user_timeout(outcome.tcp_user_timeout.as_deref())]
}

fn tcp_user_timeout(set: Option<&str>) -> Check {
    const NAME: &str = "tcp_user_timeout";
    match set {
        None => Check::new(NAME, Status::Ok, "not needed on a socket of this machine"),
        Some("0") => Check::new(NAME, Status::Warning, "0: a listener that is cut off is kept")
            .remedy(
                "leave tcp_user_timeout out of the URL, or set it above 0, and name the database \
                 itself in DATASTREAM_LISTEN_URL, since poolers ignore it: a dead listener fills \
                 the notification queue",
            ),
        Some(limit) => Check::new(NAME, Status::Ok, format!("{limit} on the LISTEN connection")),
    }
}

fn open_files(wanted: usize) -> Check {
    const NAME: &str = "files";
    let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else {
        return Check::new(NAME, Status::Skipped, "this system does not tell its limit");
    };
    let fit = descriptors::connections_within(hard);
    let status = match fit {
        fit if fit >= wanted => Status::Ok,
        // What is always left, though the rest takes all there is.
        1 => Status::Failed,
        _ => Status::Warning,
    };
    let says = format!("{hard} open files allow {} of {wanted} connections", fit.min(wanted));
    Check::new(NAME, status, says).remedy(
        "raise the limit (LimitNOFILE= of systemd, ulimit -Hn, --ulimit nofile of docker), or \
         lower DATASTREAM_MAX_CONNECTIONS",
    )
}
