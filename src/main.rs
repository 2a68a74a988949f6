//! The program `datastream`: reads the command line, runs the command, and reports a failure.

use std::{env, process::ExitCode};

use datastream::cli;

fn main() -> ExitCode {
    // First, because environment variables may only be set while the process has one thread.
    let environment = cli::Environment::load();
    let outcome = cli::parse(env::args_os()).and_then(|cli| cli::run(cli, &environment));
    cli::exit_code(outcome)
}
