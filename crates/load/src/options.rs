//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Measures a server under load: N subscribers, rounds inserted into PostgreSQL.
///
/// Without --rate the loop is closed: a transaction starts once the transaction --window before it has
/// reached every subscriber. The program checks every connection for lost, repeated and reordered
/// rounds.
#[derive(Clone, Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = Mode::Server)]
    pub(crate) mode: Mode,

    /// Transport of the subscribers
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    pub(crate) transport: Transport,

    /// Subscribers (one process may open 20,000 files on many systems)
    #[arg(long, default_value_t = 1000)]
    pub(crate) conns: usize,

    /// Rounds per second, independent of their delivery
    #[arg(long, conflicts_with = "window")]
    pub(crate) rate: Option<f64>,

    /// Rows of the INSERT of `bulk`
    #[arg(long, default_value = "10000")]
    pub(crate) rows: u64,

    /// Transactions in flight at once, without --rate
    #[arg(long, default_value_t = 1)]
    pub(crate) window: u64,

    /// Rounds per transaction
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: u64,

    /// Duration of the measurement
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,

    /// Duration of the run before the measurement
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,

    /// Reserve core 0 for the server; client, publisher and PostgreSQL share core 1
    #[arg(long)]
    pub(crate) pin: bool,

    /// Connect to the server by TLS
    #[arg(long)]
    pub(crate) tls: bool,

    /// Alternate the server with the floor, and print medians and ratios
    #[arg(long)]
    pub(crate) compare: bool,

    /// Pairs of runs to compare
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,

    /// Print one JSON object per line instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Program of the server [default: `datastream` of the same build]
    #[arg(long = "server")]
    pub(crate) program: Option<PathBuf>,

    /// Further argument for the server; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) server_arg: Vec<String>,

    /// A migrated database to use [default: a new cluster]
    #[arg(long)]
    pub(crate) database_url: Option<String>,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The server
    Server,
    /// An epoll loop that only sends one encoded frame to each socket: the lower limit
    Floor,
    /// Every figure that has a target, compared with the floor: 8 loads of --pairs pairs, pinned
    Table,
    /// The table of latencies: both transports, 1 and 1,000 subscribers, 10 and 100 rounds/s
    Latency,
    /// The latency that the listener adds to that of the notification
    Listener,
    /// --rows rows in one INSERT, to --conns subscribers
    Bulk,
    /// Queries that --conns connects cause
    Connects,
    /// --conns subscribers, 100 rounds behind, resume after a kill of the server
    Resume,
    /// Time until the stream is live after a restart of PostgreSQL, and cost of a million missed rounds
    Outage,
    /// Time until each of --conns subscribers receives the close of a stopping server
    Stop,
    /// WebTransport: 1 and --conns sessions, 5 rounds/s or --rate; then its floor, and quinn alone
    Wt,
    /// Process of quinn alone
    #[value(hide = true)]
    QuinnProcess,
    /// Process of the floor
    #[value(hide = true)]
    FloorProcess,
}

/// The transport of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WebSocket
    Ws,
    /// Server-sent events
    Sse,
}

/// The time of the next transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At this many rounds per second.
    Rate(f64),
    /// Once the transaction this many before it has reached every subscriber.
    Window(u64),
}

impl Transport {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
        }
    }
}

impl Options {
    pub(crate) fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Window(self.window), Pace::Rate)
    }

    /// The pace in words, for a table.
    pub(crate) fn pace_text(&self) -> String {
        let pace = match self.pace() {
            Pace::Rate(rate) => format!("{rate}/s"),
            Pace::Window(window) => format!("window {window}"),
        };
        if self.batch == 1 { pace } else { format!("{pace}, {} per transaction", self.batch) }
    }

    /// The program of the server: cargo builds it into the same folder as this one.
    pub(crate) fn server(&self) -> Result<PathBuf> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let own = std::env::current_exe()?;
        let folder = own.parent();
        let server = folder.context("this program is in no folder")?.join("datastream");
        anyhow::ensure!(
            server.exists(),
            "{} does not exist: run cargo build --release",
            server.display()
        );
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
