//! The command line: what can be asked for, and how the answer leaves the process.

mod arguments;
mod commands;
pub mod demo;
pub mod doctor;
mod failure;
pub mod tail;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use arguments::{load_env_file, parse};
use clap::{Args, Parser, Subcommand};
pub use commands::run;
pub use failure::{Failure, exit_code};

use crate::{
    cli::{doctor::DoctorOptions, tail::TailOptions},
    config::options::{ServeOptions, ServerOptions},
    ops::telemetry::logs::Format,
    postgres::{
        attach::{AttachOptions, CaptureMode, DetachOptions},
        options::DatabaseOptions,
    },
};

/// Streams finished game rounds out of PostgreSQL over WebSocket and SSE.
///
/// Every option is a flag and a variable, also read from `.env`; a flag wins over the environment,
/// that over `.env`, that over the default. Without a command: serve.
#[derive(Parser, Clone, Debug)]
#[command(name = "datastream", version, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The options of `serve`.
    #[command(flatten)]
    pub serve: ServeOptions,

    /// How to log.
    #[command(flatten)]
    pub logs: LogOptions,
}

const AFTER_HELP: &str = "\
Exit status: 0 after a clean stop, 1 after a failure, 2 for bad usage or configuration.
The variables PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGPASSFILE, PGSSLMODE … are read as by psql.";

/// What the program does.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Stream rounds to clients until told to stop (the default).
    Serve(Box<ServeOptions>),
    /// Prepare the database: what `sqlx migrate run` does, with waits and retries for locks.
    Migrate(MigrateOptions),
    /// Stream a game's own table: map its columns, put our triggers on it.
    Attach(Box<AttachOptions>),
    /// Let a table go: its triggers, its index and its place in the views.
    Detach(DetachOptions),
    /// Look at everything a stream needs: what is wrong, and what to do about it.
    Doctor(DoctorOptions),
    /// Show it all: a PostgreSQL of its own, games that play themselves, and the server.
    Demo(Box<DemoOptions>),
    /// Print rounds of a running server in the terminal, missing none over its restarts.
    Tail(TailOptions),
}

/// How to log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogOptions {
    /// Log lines on stderr as text or as JSON objects. What is logged: RUST_LOG
    /// (default info,sqlx=warn; debug shows each round).
    #[arg(long, env = "DATASTREAM_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: Format,
}

/// What `migrate` can be told.
#[derive(Args, Clone, Debug)]
pub struct MigrateOptions {
    /// The database; --listen-url where both are given, as a pooler keeps no locks.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// How word of finished rounds is sent from now on: auto (NOTIFY where nobody has to wait for
    /// it), notify (for each round, whatever it costs the game) or poll (never). Unchanged where
    /// nothing is said; auto at first.
    #[arg(long, value_enum, help_heading = "Database")]
    pub capture: Option<CaptureMode>,

    /// Make the schema alone, and no tables public.games and public.rounds: beside a game that has
    /// its own. `attach` does so by itself where the schema is missing.
    #[arg(long, conflicts_with = "revert", help_heading = "Database")]
    pub no_tables: bool,

    /// Take it all out again. Games and rounds stay where they were there before or hold rows.
    #[arg(long, conflicts_with = "capture", help_heading = "Database")]
    pub revert: bool,
}

/// What `demo` can be told.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// Folder of the demo's PostgreSQL; the next start finds its rounds there again.
    #[arg(long, env = "DATASTREAM_DEMO_DATA_DIR", value_name = "DIR", help_heading = "Demo")]
    #[arg(default_value = ".datastream/demo")]
    pub data_dir: PathBuf,

    /// How fast the games play: 1 is a human pace, 10 ten times that.
    #[arg(long, env = "DATASTREAM_DEMO_SPEED", value_name = "FACTOR", help_heading = "Demo")]
    #[arg(default_value = "1", value_parser = arguments::speed)]
    pub speed: f64,

    /// Port of the demo's PostgreSQL on 127.0.0.1; a free one where it is taken.
    #[arg(long, env = "DATASTREAM_DEMO_POSTGRES_PORT", value_name = "PORT", help_heading = "Demo")]
    #[arg(default_value = "54320")]
    pub postgres_port: u16,

    /// The server's options.
    #[command(flatten)]
    pub server: ServerOptions,
}
