//! Puts load on a server and measures what it costs: `cargo run --release -p datastream-load -- --help`.
//!
//! The server runs as the release program in its own process, and so does the floor, the lower limit
//! to compare with. Subscribers and publisher run in this process and share its clock.
//! `docs/benchmarks.md` explains the figures.

mod bulk;
mod client;
mod clock;
mod compare;
mod connection;
mod connects;
mod database;
mod deliveries;
mod events;
mod floor;
mod histogram;
mod latency;
mod listener;
mod message;
mod options;
mod outage;
mod outcome;
mod process;
mod publisher;
mod resume;
mod run;
mod run_state;
mod stop;
mod stream;
mod table;
mod target;
mod tls;
mod websocket;
mod wt;
mod wt_bare;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{
    database::Database,
    options::{Mode, Options},
    outcome::HEAD,
    run::Subject,
};

/// Open files of this process besides the subscribers' sockets.
const OTHER_FILES: u64 = 64;

fn main() -> Result<()> {
    let options = Options::parse();
    if options.mode == Mode::FloorProcess {
        return floor::serve();
    }
    if options.mode == Mode::QuinnProcess {
        return wt_bare::serve(&options);
    }
    let files = rlimit::increase_nofile_limit(u64::MAX)?.saturating_sub(OTHER_FILES);
    ensure!(options.conns as u64 <= files, "at most {files} subscribers fit the open files limit");
    if options.mode == Mode::Floor {
        return single(&options, Subject::Floor, None);
    }
    let mut database = Database::open(&options)?;
    match options.mode {
        Mode::Latency => latency::latency(&options, &database),
        Mode::Listener => listener::listener(&database),
        Mode::Stop => stop::stop(&options, &database),
        Mode::Table => table::table(&options, &database),
        Mode::Bulk => bulk::bulk(&options, &database),
        Mode::Connects => connects::connects(&options, &mut database),
        Mode::Wt => wt::measure(&options, &database),
        Mode::Outage => outage::outage(&options, &mut database),
        Mode::Resume => resume::resume(&options, &database),
        _ if options.compare => compare::compare(&options, &database),
        _ => single(&options, Subject::Server, Some(&database)),
    }
}

fn single(options: &Options, subject: Subject, database: Option<&Database>) -> Result<()> {
    let outcome = run::run(options, subject, database)?;
    if !options.json {
        println!("{HEAD}");
    }
    outcome.print(options.json)?;
    ensure!(outcome.faults.none(), "not every round came once and in order");
    Ok(())
}
