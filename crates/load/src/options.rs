//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Puts load on a server and measures it: N subscribers, rounds inserted into PostgreSQL.
///
/// Without --rate the loop is closed: a transaction is inserted once the one --window before it has
/// reached every subscriber. Every connection is checked for lost, repeated and reordered rounds.
#[derive(Clone, Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = Mode::Server)]
    pub(crate) mode: Mode,

    /// How subscribers connect
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    pub(crate) transport: Transport,

    /// Subscribers (one process may open 20,000 files on many systems)
    #[arg(long, default_value_t = 1000)]
    pub(crate) conns: usize,

    /// Rounds a second, however long each takes to be delivered
    #[arg(long, conflicts_with = "window")]
    pub(crate) rate: Option<f64>,

    /// Transactions on their way at once, without --rate
    #[arg(long, default_value_t = 1)]
    pub(crate) window: u64,

    /// Rounds in a transaction
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: u64,

    /// How long to measure
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,

    /// How long to run before measuring
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,

    /// Give the server core 0 for itself; client, publisher and PostgreSQL share core 1
    #[arg(long)]
    pub(crate) pin: bool,

    /// Alternate the server with the floor, and print medians and ratios
    #[arg(long)]
    pub(crate) compare: bool,

    /// Pairs of runs to compare
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,

    /// Print one JSON object a line instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// The server's program [default: `datastream` of the same build]
    #[arg(long = "server")]
    pub(crate) program: Option<PathBuf>,

    /// More arguments for the server, one each
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) server_arg: Vec<String>,

    /// A migrated database to use [default: a cluster of its own]
    #[arg(long)]
    pub(crate) database_url: Option<String>,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The server
    Server,
    /// A bare epoll loop that sends one encoded frame to each socket: the limit to compare with
    Floor,
    /// Every figure that has a bar, beside the floor: 8 loads of --pairs pairs, pinned
    Table,
    /// The table of latencies: both transports, 1 and 1,000 subscribers, 10 and 100 rounds/s
    Latency,
    /// What the listener adds to the notification's own arrival
    Listener,
    /// 10,000 rows in one INSERT, to --conns subscribers
    Bulk,
    /// Queries that --conns connects cause
    Connects,
    /// --conns subscribers, 100 rounds behind, resume after the server was killed
    Resume,
    /// How soon the stream is live after PostgreSQL was stopped and started, and what a million missed
    /// rounds take
    Outage,
    /// When each of --conns subscribers is told of a stop
    Stop,
    /// WebTransport: 1 and --conns sessions, 5 rounds/s or --rate; then its floor, and quinn alone
    Wt,
    /// quinn alone, in a process of its own
    #[value(hide = true)]
    QuinnProcess,
    /// The floor's own process
    #[value(hide = true)]
    FloorProcess,
}

/// How a subscriber connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WebSocket
    Ws,
    /// Server-sent events
    Sse,
}

/// When the next transaction goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many rounds a second.
    Rate(f64),
    /// Once the transaction this many before it has reached everybody.
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
        if self.batch == 1 { pace } else { format!("{pace}, {} a transaction", self.batch) }
    }

    /// The server's program: cargo puts it beside this one.
    pub(crate) fn server(&self) -> Result<PathBuf> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let own = std::env::current_exe()?;
        let folder = own.parent();
        let server = folder.context("this program is in no folder")?.join("datastream");
        anyhow::ensure!(server.exists(), "{}: not there: cargo build --release", server.display());
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
