//! `datastream bus`: makes and checks the stream on NATS.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{
    Failure,
    commands::{env_variable, print_line},
};
use crate::{
    config::{BusConfig, ConfigError, NodeName, options::BusOptions, retention},
    ops::telemetry::metrics::Metrics,
    postgres::check::{Check, Status},
    stream::bus::{Bus, BusError, StreamConfig, connect_once, find_leader},
};

/// Errors, and warnings about variables: what is printed says everything else.
pub const LOG_FILTER: &str = "error,async_nats=off,datastream::cli=warn";

/// The options of `bus`.
#[derive(Args, Clone, Debug)]
pub struct BusCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: BusAction,
}

/// What `bus` does.
#[derive(Subcommand, Clone, Debug)]
pub enum BusAction {
    /// Make the stream. `serve` and `capture` never make or change one. An equal stream that exists
    /// is left as it is.
    Create(CreateOptions),
    /// Compare the stream with what is needed, and look for a leading capture node. Changes nothing.
    Check(CheckOptions),
}

/// The options of `bus create`.
#[derive(Args, Clone, Debug)]
pub struct CreateOptions {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// Copies of the stream, on as many NATS nodes: 1 for a trial, otherwise 3 or 5.
    #[arg(long, value_name = "COPIES", default_value = "3", help_heading = "Bus")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,

    /// How long the stream keeps rounds. As long as the outbox, by default.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION", default_value = "24h")]
    #[arg(value_parser = retention, help_heading = "Streaming")]
    pub retention: Duration,

    /// Print the configuration as JSON, for `nats stream add --config FILE`. Connects to nothing.
    #[arg(long, help_heading = "Bus")]
    pub dry_run: bool,
}

/// The options of `bus check`.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// How long the stream should keep rounds.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION", default_value = "24h")]
    #[arg(value_parser = retention, help_heading = "Streaming")]
    pub retention: Duration,
}

/// Runs `bus create` or `bus check`.
pub(super) async fn run(command: BusCommand) -> Result<(), Failure> {
    match command.action {
        BusAction::Create(options) => create(options).await,
        BusAction::Check(options) => {
            let bus = required(options.bus)?;
            let checks = examine(&bus, options.retention).await;
            checks.iter().for_each(|check| print_line(&check.to_string()));
            let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
            match failed {
                0 => Ok(()),
                _ => Err(anyhow::anyhow!("{failed} of {} checks failed", checks.len()).into()),
            }
        }
    }
}

fn required(options: BusOptions) -> Result<BusConfig, Failure> {
    let resolved = resolve(options)?;
    let missing = ConfigError::Missing { flag: "bus", variable: "DATASTREAM_BUS" };
    resolved.ok_or_else(|| Failure::usage(&missing))
}

/// The bus of these options, if it is set.
pub(super) fn resolve(options: BusOptions) -> Result<Option<BusConfig>, Failure> {
    let node = env_variable("DATASTREAM_NODE").unwrap_or_else(|| NodeName::of_host().to_string());
    options.resolve(&node).map_err(|error| Failure::usage(&error))
}

async fn create(options: CreateOptions) -> Result<(), Failure> {
    let (replicas, retention) = (options.replicas, options.retention);
    let config = StreamConfig { replicas, retention };
    let now = chrono::Utc::now().timestamp_micros();
    if options.dry_run {
        let (stream, prefix) = (&options.bus.bus_stream, &options.bus.bus_prefix);
        let json = config.json(stream, prefix, now);
        print_line(&serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    let bus = required(options.bus)?;
    let client = connect_once(&bus, &Metrics::default()).await.map_err(anyhow::Error::new)?;
    let made = config.create(&Bus::new(client, &bus), now).await.map_err(anyhow::Error::new)?;
    let stream = &bus.stream;
    print_line(&match made {
        true => format!("made the stream {stream} with {replicas} replicas"),
        false => format!("No changes needed: the stream {stream} exists."),
    });
    Ok(())
}

/// The checks of the bus.
pub(super) async fn examine(config: &BusConfig, retention: Duration) -> Vec<Check> {
    const CONNECTION: &str = "bus";
    let metrics = Metrics::default();
    let client = match connect_once(config, &metrics).await {
        Ok(client) => client,
        Err(error) => return vec![failed(CONNECTION, &error)],
    };
    let bus = Bus::new(client, config);
    let says = format!("{} answers, nats-server {}", config.url, bus.server_version());
    let mut checks = vec![Check::new(CONNECTION, Status::Ok, says)];
    checks.extend(stream(&bus, retention).await);
    checks.extend(anonymous(&bus));
    checks.push(leader(&bus).await);
    checks
}

async fn stream(bus: &Bus, retention: Duration) -> Vec<Check> {
    const NAME: &str = "stream";
    let config = StreamConfig { replicas: 1, retention };
    let differences = match config.differences(bus).await {
        Ok(differences) => differences,
        Err(error) => return vec![failed(NAME, &error)],
    };
    if differences.is_empty() {
        return vec![Check::new(NAME, Status::Ok, format!("{} is as it should be", bus.stream()))];
    }
    let checks = differences.iter().map(|it| {
        let status = if it.loses_rounds { Status::Failed } else { Status::Warning };
        let says = format!("{}: {} is {}, not {}", bus.stream(), it.setting, it.is, it.should_be);
        let remedy = "print the configuration with `datastream bus create --dry-run`, and apply it \
                      with `nats stream edit --config FILE`";
        Check::new(NAME, status, says).remedy(remedy)
    });
    checks.collect()
}

/// Without accounts everybody can publish, and an edge would believe it.
fn anonymous(bus: &Bus) -> Option<Check> {
    const NAME: &str = "permissions";
    if bus.requires_credentials() {
        return None;
    }
    let says = "NATS asks for no credentials: anybody who reaches it can forge rounds";
    let remedy = "give captures and edges users with the permissions of docs/scale-out.md";
    Some(Check::new(NAME, Status::Warning, says).remedy(remedy))
}

async fn leader(bus: &Bus) -> Check {
    const NAME: &str = "leader";
    let remedy = "start a capture node: datastream capture --bus URL";
    match find_leader(bus).await {
        Ok(Some(beat)) if beat.is_live => {
            Check::new(NAME, Status::Ok, format!("{} leads, at message {}", beat.node, beat.end))
        }
        Ok(Some(beat)) => {
            let says = format!("{} leads, and is not connected to the database", beat.node);
            Check::new(NAME, Status::Warning, says).remedy("look into the log of that node")
        }
        Ok(None) => {
            Check::new(NAME, Status::Warning, "no capture node sends a beat").remedy(remedy)
        }
        Err(error) => failed(NAME, &error),
    }
}

fn failed(name: &'static str, error: &BusError) -> Check {
    let text = error.to_string();
    // The last sentence says what to do.
    match text.trim_end_matches('.').rsplit_once(". ") {
        Some((says, remedy)) => Check::new(name, Status::Failed, says).remedy(remedy),
        None => Check::new(name, Status::Failed, text),
    }
}
