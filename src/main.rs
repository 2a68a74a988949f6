//! The program `datastream`: reads the command line, runs the command, and reports a failure.

use std::{env, process::ExitCode};

use datastream::cli;

/// It returns what a burst of clients took, with the setting in `.cargo/config.toml`.
/// After 1,024 QUIC connections glibc's allocator and mimalloc keep 70 to 100 MB, this one 7.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // First, because environment variables may only be set while the process has one thread.
    let environment = cli::Environment::load();
    let outcome = cli::parse(env::args_os()).and_then(|cli| cli::run(cli, &environment));
    cli::exit_code(outcome)
}
