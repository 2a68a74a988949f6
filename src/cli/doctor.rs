//! `datastream doctor`: checks everything a stream needs, and prints a finding and a remedy for
//! each check. Changes nothing.

mod web_transport;

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{
    config::{
        BusConfig, WebTransportConfig, max_round,
        options::{BusOptions, ReadOnlyOptions, WebTransportOptions},
        retention,
    },
    ops::descriptors,
    postgres::{
        attach::suggest,
        check::{Check, Status},
        doctor as database,
        options::{DatabaseConfig, DatabaseOptions},
        read_only::OperatorQueries,
    },
    source::self_test,
};

/// Errors, and warnings about variables: the printed findings say everything else.
pub const LOG_FILTER: &str = "error,datastream::cli=warn";

/// The options of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorOptions {
    /// The database, as for `serve`.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The read-only mode, as for `serve`. Then only the two queries are checked.
    #[command(flatten)]
    pub read_only: ReadOnlyOptions,

    /// WebTransport, as for `serve`.
    #[command(flatten)]
    pub web_transport: WebTransportOptions,

    /// The bus, as for `serve` and `capture`. Without a database, as on an edge, only the bus is
    /// checked.
    #[command(flatten)]
    pub bus: BusOptions,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,

    /// Retention of outbox rows, as for `serve`. Older rows are reported.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION")]
    #[arg(value_parser = retention, default_value = "24h")]
    pub retention: Duration,

    /// Most text in the extras of a round, as for `serve`. Rounds with more are reported.
    #[arg(long, env = "DATASTREAM_MAX_ROUND", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = max_round)]
    pub max_round: usize,

    /// Open streams, as for `serve`. A lower limit on open files is reported.
    #[arg(long, env = "DATASTREAM_MAX_CONNECTIONS", value_name = "CONNECTIONS")]
    #[arg(default_value = "100000")]
    pub max_connections: NonZeroUsize,
}

/// The findings.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether no check failed.
    pub ok: bool,
    /// The checks, in the order of the report.
    pub checks: Vec<Check>,
}

/// Runs all checks.
pub async fn examine(
    config: &DatabaseConfig,
    bus: Option<&BusConfig>,
    web_transport: Option<&WebTransportConfig>,
    options: &DoctorOptions,
) -> Report {
    let mut checks = match bus {
        Some(bus) => super::bus::examine(bus, options.retention).await,
        None => Vec::new(),
    };
    // An edge has no database.
    if bus.is_none() || options.database.database_url.is_some() {
        checks.extend(examine_database(config, options).await);
    }
    checks.extend(web_transport::check(web_transport));
    checks.push(open_files(options.max_connections.get()));
    let ok = checks.iter().all(|check| check.status != Status::Failed);
    Report { ok, checks }
}

async fn examine_database(config: &DatabaseConfig, options: &DoctorOptions) -> Vec<Check> {
    let source = options.read_only.clone().resolve().map(|config| OperatorQueries::new(&config));
    let mut checks = database::examine(&config.target, options.retention, source.as_ref()).await;
    let reached =
        checks.iter().all(|check| check.name != "connection" || check.status == Status::Ok);
    if reached && source.is_none() {
        checks.extend(check_listener(config).await);
        checks.extend(suggestions(config).await);
    }
    checks
}

/// Commands to attach with, on a database with no attached table.
async fn suggestions(config: &DatabaseConfig) -> Option<Check> {
    const NAME: &str = "suggestions";
    let found = match suggest::suggest_first(&config.target).await {
        Ok(found) => found?,
        Err(error) => return Some(Check::new(NAME, Status::Skipped, error.to_string())),
    };
    let says = format!("no table is attached; {} look like rounds", found.len());
    Some(Check::new(NAME, Status::Warning, says).remedy(suggest::as_lines(&found).join("\n")))
}

async fn check_listener(config: &DatabaseConfig) -> Vec<Check> {
    const NAME: &str = "listener";
    let outcome = match self_test::test_delivery(&config.listen, &config.target).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let check = Check::new(NAME, Status::Failed, format!("{}: {error}", config.listen));
            return vec![
                check.remedy("set DATASTREAM_LISTEN_URL to the direct URL of the database"),
            ];
        }
    };
    let delivered = match outcome.delivered_after {
        Some(took) => {
            let says = format!("{} delivers notifications, after {took:.1?}", config.listen);
            Check::new(NAME, Status::Ok, says)
        }
        None => {
            let says = format!("{} delivers no notifications (a pooler?)", config.listen);
            Check::new(NAME, Status::Failed, says).remedy(
                "set DATASTREAM_LISTEN_URL to the direct URL of the database; DATABASE_URL may \
                 keep the pooler",
            )
        }
    };
    vec![delivered, tcp_user_timeout(outcome.tcp_user_timeout.as_deref())]
}

fn tcp_user_timeout(set: Option<&str>) -> Check {
    const NAME: &str = "tcp_user_timeout";
    match set {
        None => Check::new(NAME, Status::Ok, "not needed on a Unix socket"),
        Some("0") => {
            let says = "0: PostgreSQL keeps a dead listener, which fills the notification queue";
            Check::new(NAME, Status::Warning, says).remedy(
                "remove tcp_user_timeout from the URL or set it above 0; if there is a pooler, \
                 which ignores it, set DATASTREAM_LISTEN_URL to the direct URL of the database",
            )
        }
        Some(limit) => Check::new(NAME, Status::Ok, format!("{limit} on the LISTEN connection")),
    }
}

fn open_files(wanted: usize) -> Check {
    const NAME: &str = "files";
    let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else {
        return Check::new(NAME, Status::Skipped, "this system does not report its limit");
    };
    let fit = descriptors::connections_within(hard);
    let status = match fit {
        fit if fit >= wanted => Status::Ok,
        // One connection is the minimum, even if the server's own files take the whole limit.
        1 => Status::Failed,
        _ => Status::Warning,
    };
    let says =
        format!("a limit of {hard} open files allows {} of {wanted} streams", fit.min(wanted));
    Check::new(NAME, status, says).remedy(
        "raise the limit (systemd: LimitNOFILE=, shell: ulimit -Hn, docker: --ulimit nofile), or \
         lower DATASTREAM_MAX_CONNECTIONS",
    )
}
