//! The program `datastream`: reads the command line, runs the command, and reports a failure.

use std::{env, process::ExitCode};

use datastream::cli;

fn main() -> ExitCode {
    let environment = cli::Environment::before_env_file();
    // First, because environment variables may only be set while the process has one thread.
    let outcome = cli::load_env_file()
        .and_then(|()| cli::parse(env::args_os()))
        .and_then(|cli| cli::run(cli, &environment));
    cli::exit_code(outcome)
}
