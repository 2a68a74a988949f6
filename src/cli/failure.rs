//! How the process ends: its exit status, and one line on stderr.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// It was asked for help or its version. Status 0.
    HelpOrVersion(clap::Error),
    /// Bad usage or configuration; the line names the option. Status 2.
    Usage(String),
    /// It failed. Status 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// Bad usage or configuration.
    pub(super) fn usage(message: &impl ToString) -> Self {
        Self::Usage(message.to_string())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Says how it ended, and with which status to leave.
pub fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::HelpOrVersion(text)) => {
            // A closed pipe (`--help | head -1`) is no failure.
            let _ = text.print();
            ExitCode::SUCCESS
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

fn print_error(message: &str) {
    // Causes may come with line breaks of their own, PostgreSQL's for one.
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // Where it cannot be written, the exit status says it.
    let _ = writeln!(io::stderr(), "datastream: error: {line}");
}
