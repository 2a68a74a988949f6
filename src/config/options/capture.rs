//! The options of `capture`.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::Args;

use super::BusOptions;
use crate::{
    config::{CaptureConfig, ConfigError, NodeName, values},
    ops::memory_budget,
    postgres::options::DatabaseOptions,
};

/// The options of `capture`.
#[derive(Args, Clone, Debug)]
pub struct CaptureOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// Address and port of /healthz, /readyz and /metrics: plain HTTP without tokens. Keep the port
    /// private. Port 0 takes a free port and logs it.
    #[arg(long, env = "DATASTREAM_HTTP_ADDR", value_name = "ADDR:PORT", help_heading = "HTTP")]
    #[arg(default_value = "0.0.0.0:3000")]
    pub http_addr: SocketAddr,

    /// This node's name in logs, in application_name, in the log and on /readyz. Default: the host
    /// name.
    #[arg(long, env = "DATASTREAM_NODE", value_name = "NAME", help_heading = "HTTP")]
    pub node: Option<NodeName>,

    /// Rounds of each game with which a new log begins. As for `serve`.
    #[arg(long, env = "DATASTREAM_HISTORY", value_name = "ROUNDS", default_value = "1024")]
    #[arg(help_heading = "Streaming")]
    pub history: NonZeroUsize,

    /// How long finished rounds stay in the outbox for resume. As for `serve`.
    #[arg(long, env = "DATASTREAM_RETENTION", value_name = "DURATION")]
    #[arg(value_parser = values::retention, default_value = "24h", help_heading = "Streaming")]
    pub retention: Duration,

    /// Memory for what can grow. As for `serve`.
    #[arg(long, env = "DATASTREAM_MEMORY", value_name = "BYTES", value_parser = values::memory)]
    #[arg(help_heading = "Limits")]
    pub memory: Option<usize>,

    /// Most text in the extras of a round. Rounds with more are skipped.
    #[arg(long, env = "DATASTREAM_MAX_ROUND", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = values::max_round, help_heading = "Limits")]
    pub max_round: usize,
}

impl CaptureOptions {
    /// The configuration from these options and the variables `env`.
    pub fn resolve(
        self,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<CaptureConfig, ConfigError> {
        let node = self.node.unwrap_or_else(NodeName::of_host);
        let takeover = self.bus.bus_takeover;
        let missing = ConfigError::Missing { flag: "bus", variable: "DATASTREAM_BUS" };
        let bus = self.bus.resolve(&node.to_string())?.ok_or(missing)?;
        let memory = self.memory.unwrap_or_else(memory_budget::default_limit);
        if self.max_round > memory / 8 {
            return Err(ConfigError::RoundsTooLarge { memory });
        }
        let database = self.database.resolve(env)?.of_node(&node.to_string());
        Ok(CaptureConfig {
            database: database.with_max_round(self.max_round),
            bus,
            node,
            http_addr: self.http_addr,
            takeover,
            history: self.history,
            retention: self.retention,
            memory,
            max_round: self.max_round,
        })
    }
}
