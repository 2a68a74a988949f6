//! How the process ends: its exit status, and one line on stderr.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

/// How long the last line may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why no command ran to its end.
#[derive(Debug)]
pub enum Failure {
    /// The user asked for help or the version. Status 0.
    HelpOrVersion(clap::Error),
    /// Bad usage or configuration. The line names the option. Status 2.
    Usage(String),
    /// The command failed. Status 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// Bad usage or configuration.
    pub(super) fn usage(message: &impl ToString) -> Self {
        Self::Usage(message.to_string())
    }

    /// Puts the failed action before the error's message.
    pub(super) fn context(self, action: String) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.context(action)),
            other => other,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Prints a failure and returns the exit status.
pub fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => printed(),
        Err(Failure::HelpOrVersion(text)) => {
            if let Err(error) = text.print() {
                note_unprinted(error);
            }
            printed()
        }
        Err(Failure::Usage(message)) => {
            print_error(&message);
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The first error of stdout.
static UNPRINTED: OnceLock<io::Error> = OnceLock::new();

/// Notes that stdout cannot be written. A closed pipe (`| head -1`) is no failure: its reader has
/// what it wants.
pub(super) fn note_unprinted(error: io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = UNPRINTED.set(error);
    }
}

/// Whether stdout took everything.
fn printed() -> ExitCode {
    let Some(error) = UNPRINTED.get() else { return ExitCode::SUCCESS };
    print_error(&format!("cannot write to stdout: {error}"));
    ExitCode::FAILURE
}

fn print_error(message: &str) {
    // Causes may contain line breaks, such as PostgreSQL's messages.
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let (written, is_written) = mpsc::channel();
    let write = move || {
        // If stderr cannot be written, the exit status still reports the failure.
        let _ = writeln!(io::stderr(), "datastream: error: {line}");
        let _ = written.send(());
    };
    // A pipe that nobody reads must not keep the process from ending.
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_written.recv_timeout(WRITE_TIMEOUT);
    }
}
