//! What the soak can be told.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Proves that nothing is lost and nothing comes twice, whatever fails: a PostgreSQL of its own, the
/// real server behind a proxy that breaks, writers, subscribers, and the table as the judge.
#[derive(Parser, Clone, Debug)]
#[command(name = "soak", max_term_width = 100)]
pub(crate) struct Args {
    /// How long faults happen.
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// The same seed gives the same schedule of faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How the trigger sends word.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) capture: Capture,
    /// Folder with the programs of the PostgreSQL to run; default: the newest that is found.
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Mean time between two faults.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "250ms")]
    pub(crate) fault_every: Duration,
    /// Run with synchronous_commit = off, where a crash of PostgreSQL takes back commits that were
    /// streamed: those are told apart from ghosts of our own making. The server is not restarted.
    #[arg(long)]
    pub(crate) lossy: bool,
    /// Print the schedule of faults and do nothing.
    #[arg(long)]
    pub(crate) schedule: bool,
    /// Transactions begin this often in each of the writers, on average.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "25ms")]
    pub(crate) write_every: Duration,
    /// Servers on the one database, each with a link of its own that breaks. Where there are several,
    /// subscribers that come back go to each in turn and name what another gave them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) nodes: u8,
}

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
