//! The program under test, run as a command until it exits.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::within;

/// Every variable of `serve`.
pub const VARIABLES: [&str; 48] = [
    "DATABASE_URL",
    "DATASTREAM_LISTEN_URL",
    "DATASTREAM_HTTP_ADDR",
    "DATASTREAM_INTERNAL_ADDR",
    "DATASTREAM_NODE",
    "DATASTREAM_TLS_CERT",
    "DATASTREAM_TLS_KEY",
    "DATASTREAM_TRUSTED_PROXIES",
    "DATASTREAM_SHARDS",
    "DATASTREAM_READ_ONLY",
    "DATASTREAM_READ_ONLY_GAMES",
    "DATASTREAM_READ_ONLY_ROUNDS",
    "DATASTREAM_READ_ONLY_OVERLAP",
    "DATASTREAM_BUS",
    "DATASTREAM_BUS_STREAM",
    "DATASTREAM_BUS_PREFIX",
    "DATASTREAM_BUS_CREDS",
    "DATASTREAM_BUS_CA",
    "DATASTREAM_BUS_CERT",
    "DATASTREAM_BUS_KEY",
    "DATASTREAM_BUS_DOMAIN",
    "DATASTREAM_BUS_FILL",
    "DATASTREAM_BUS_TAKEOVER",
    "DATASTREAM_AUTH_SECRET",
    "DATASTREAM_AUTH_KEYS",
    "DATASTREAM_AUTH_AUDIENCE",
    "DATASTREAM_AUTH_ISSUER",
    "DATASTREAM_AUTH_CLAIM",
    "DATASTREAM_AUTH_LEEWAY",
    "DATASTREAM_AUTH_COOKIE",
    "DATASTREAM_AUTH_QUERY",
    "DATASTREAM_WT_ENABLED",
    "DATASTREAM_WT_ADDR",
    "DATASTREAM_WT_CERT",
    "DATASTREAM_WT_KEY",
    "DATASTREAM_HEARTBEAT",
    "DATASTREAM_HISTORY",
    "DATASTREAM_MEMORY",
    "DATASTREAM_MAX_ROUND",
    "DATASTREAM_RESUME_BYTES",
    "DATASTREAM_RESUME_LIMIT",
    "DATASTREAM_RETENTION",
    "DATASTREAM_SHUTDOWN_GRACE",
    "DATASTREAM_ALLOWED_ORIGINS",
    "DATASTREAM_MAX_CONNECTIONS",
    "DATASTREAM_MAX_CONNECTIONS_PER_ADDRESS",
    "DATASTREAM_MAX_CONNECTS_PER_SECOND",
    "DATASTREAM_LOG_FORMAT",
];

/// How a run ended and what it printed.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A run of a program that has not started.
#[derive(Debug)]
pub struct Run {
    pub command: Command,
}

/// The program under test: cargo builds it into the folder of the programs, one above the tests.
pub fn path() -> PathBuf {
    let own = std::env::current_exe().expect("a path of this program");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("a folder") } else { folder };
    folder.join("datastream")
}

/// `datastream` with these arguments, without the settings in the environment.
pub fn datastream(args: &[&str]) -> Run {
    Run { command: Command::new(path()) }.clean(args)
}

/// Another program, by its path or on `PATH`, without the settings in the environment.
pub fn program(path: &str, args: &[&str]) -> Run {
    Run { command: Command::new(path) }.clean(args)
}

impl Run {
    fn clean(mut self, args: &[&str]) -> Self {
        self.command.args(args).env_clear().env("NO_COLOR", "1").kill_on_drop(true);
        for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                self.command.env(name, value);
            }
        }
        // So that the program does not read a developer's .env.
        self.command.current_dir("/").stdin(Stdio::null());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs the program until it exits.
    #[track_caller]
    pub fn run(mut self) -> impl Future<Output = Output> {
        let what = format!("the end of {:?}", self.command.as_std());
        within(what, async move {
            let output = self.command.output().await.expect("a program that can be run");
            Output {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        })
    }
}
