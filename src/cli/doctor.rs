//! `datastream doctor`: looks at everything a stream needs, and says of each what it found and
//! what to do about it. Changes nothing.

mod web_transport;

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;
use serde::Serialize;
use sqlx::{Connection, Row};

use crate::{
    config::{
        DatabaseConfig, WebTransportConfig,
        options::{DatabaseOptions, ReadOnlyOptions, WebTransportOptions},
        retention,
    },
    http::accept_loop,
    postgres::{
        check::{Check, Status},
        connection as pool, doctor as database, pooler,
        read_only::Source,
        target::PgTarget,
    },
    source::self_test,
    stream::round::UnixMillis,
};

/// Only what is printed: the rest would be told twice.
pub const LOG_FILTER: &str = "error";

/// (To compile the queries takes a hundred times as long as to run them: of a table that was never
/// analyzed PostgreSQL expects many rows. 47 s against 1 s.)
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "2s"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
];
/// `timestamp` in a round is by this machine's clock, `finished_at` by the game's.
const CLOCK_APART: f64 = 1.0;

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
    let mut checks = queries(&config.target, options, source.as_ref()).await;
    let reached =
        checks.iter().all(|check| check.name != "connection" || check.status == Status::Ok);
    if reached && source.is_none() {
        checks.extend(listener(config).await);
    }
    checks.extend(web_transport::look(web_transport));
    checks.push(files(options.max_connections.get()));
    let ok = checks.iter().all(|check| check.status != Status::Failed);
    Report { ok, checks }
}

async fn queries(
    target: &PgTarget,
    options: &DoctorOptions,
    source: Option<&Source>,
) -> Vec<Check> {
    let mut connection = match pool::connect(target, "doctor", &SETTINGS).await {
        Ok(connection) => connection,
        Err(error) => {
            let check = Check::new("connection", Status::Failed, error.to_string());
            return vec![check.remedy("set DATABASE_URL so that psql \"$DATABASE_URL\" connects")];
        }
    };
    let pooled = pooler::is_shared(&mut connection, target, "doctor").await;
    let how = if pooled { ", through a pooler that shares its sessions" } else { "" };
    let mut checks = vec![Check::new("connection", Status::Ok, format!("{target} answers{how}"))];
    checks.extend(match source {
        Some(source) => database::ask_read_only(&mut connection, source).await,
        None => database::ask(&mut connection, options.retention).await,
    });
    checks.push(clock(&mut connection).await);
    let _closed = connection.close().await;
    checks
}

/// How far the two clocks are apart, at least: what the question took is not held against them.
async fn clock(connection: &mut sqlx::PgConnection) -> Check {
    let before = seconds();
    let there = "select extract(epoch from clock_timestamp())::double precision";
    let there = sqlx::raw_sql(there).fetch_one(connection).await;
    let there = there.and_then(|row| row.try_get::<f64, _>(0));
    let after = seconds();
    match there {
        Err(error) => Check::new("clock", Status::Skipped, pool::reason(&error)),
        Ok(there) => {
            let apart = (there - after).max(before - there).max(0.0);
            let status = if apart > CLOCK_APART { Status::Warning } else { Status::Ok };
            let says =
                format!("the clocks of this machine and the database are {apart:.1} s apart");
            Check::new("clock", status, says).remedy("run an NTP client on both")
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn seconds() -> f64 {
    UnixMillis::now().0 as f64 / 1000.0
}

async fn listener(config: &DatabaseConfig) -> Vec<Check> {
    const NAME: &str = "listener";
    let hearing = match self_test::hear_oneself(&config.listen, &config.target).await {
        Ok(hearing) => hearing,
        Err(error) => {
            let check = Check::new(NAME, Status::Failed, format!("{}: {error}", config.listen));
            return vec![check.remedy("set DATASTREAM_LISTEN_URL to the database itself")];
        }
    };
    let heard = match hearing.heard {
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
    vec![heard, tcp_user_timeout(hearing.tcp_user_timeout.as_deref())]
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

fn files(wanted: usize) -> Check {
    const NAME: &str = "files";
    let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else {
        return Check::new(NAME, Status::Skipped, "this system does not tell its limit");
    };
    let fit = accept_loop::connections_within(hard);
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
