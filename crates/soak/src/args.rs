//! The command line of the soak.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Checks under faults that no round is lost and none is delivered twice. Runs its own PostgreSQL,
/// the real server behind a fault proxy, writers and subscribers, and compares all received rounds
/// with the table. With --bus: three nodes of NATS, three captures, and edges.
#[derive(Parser, Clone, Debug)]
#[command(name = "soak", max_term_width = 100)]
pub(crate) struct Args {
    /// Duration of the faults, in seconds.
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// The same seed gives the same schedule of faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How the trigger announces a finished round.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) capture: Capture,
    /// Folder with the programs of the PostgreSQL to run; default: the newest that is found.
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Mean time between two faults.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "250ms")]
    pub(crate) fault_every: Duration,
    /// Run with synchronous_commit = off: a crash of PostgreSQL may then lose commits that were already
    /// streamed. They are counted separately from uncommitted rounds. The server is not restarted.
    #[arg(long)]
    pub(crate) lossy: bool,
    /// Print the schedule of faults and exit.
    #[arg(long)]
    pub(crate) schedule: bool,
    /// Mean time between two transactions of a writer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "25ms")]
    pub(crate) write_every: Duration,
    /// Servers on the same database, each behind its own fault proxy. With several servers, a
    /// subscriber that reconnects goes to the next one and resumes after a round from another.
    /// Default: 1, and 4 with --bus.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8))]
    nodes: Option<u8>,
    /// The servers are edges of a log on NATS (three nodes, or NATS_SERVER names the program), to which
    /// three captures append. Faults of captures, of NATS and of its stores are added. A resume on
    /// another edge must be exact, except where NATS lost messages and the program counted it.
    #[arg(long, conflicts_with = "lossy")]
    pub(crate) bus: bool,
}

impl Args {
    /// How many servers.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.unwrap_or(if self.bus { EDGES } else { 1 }).into()
    }
}

/// Edges of a log, without --nodes.
const EDGES: u8 = 4;

/// A capture mode of `datastream migrate`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Capture {
    Auto,
    Notify,
    Poll,
}

impl Capture {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}
