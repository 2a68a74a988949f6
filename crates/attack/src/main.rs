//! Attacks a server as strangers may, and measures what others notice:
//! `cargo run --release -p datastream-attack -- --help`.
//!
//! The server runs as the release program on a database of its own. A steady subscriber on another
//! game receives 20 rounds a second meanwhile. `docs/benchmarks.md` has the bars.

mod access;
mod attacks;
mod clients;
mod memory;
mod options;
mod report;
mod steady;
mod target;

use anyhow::Result;
use clap::Parser;
use tokio::time::sleep;

use crate::{options::Options, report::Report, steady::Steady, target::Target};

fn main() -> Result<()> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    tokio::runtime::Runtime::new()?.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let target = Target::start(options).await?;
    let before = memory::resident_bytes(target.pid)?;
    let steady = Steady::start(&target).await?;
    for _ in 1..options.waves {
        drop(attacks::run(options, &target).await?);
        sleep(options.rest).await;
    }
    let held = attacks::run(options, &target).await?;
    let mut report = Box::pin(Report::of(&target, before, &held)).await?;
    report.rounds = steady.stop().await;
    drop(held);
    report.memory_left(&target, options.rest).await?;
    report.print(options.attack);
    report.check()
}
