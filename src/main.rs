//! The program `datastream`: reads the command line, does what it says, and says how it ended.

use std::{env, process::ExitCode};

use datastream::cli;

fn main() -> ExitCode {
    // First of all: variables may only be set while there is one thread.
    let outcome = cli::load_env_file().and_then(|()| cli::parse(env::args_os())).and_then(cli::run);
    cli::exit_code(outcome)
}
