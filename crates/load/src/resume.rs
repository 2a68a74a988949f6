//! All subscribers come back at once after the server was killed, and want what they missed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    board::Board,
    client::{Client, Plan, Seen, Start},
    clock::Clock,
    database::{self, Database},
    options::Options,
    outcome::HEAD_RESUME,
    process,
    publisher::{Destination, Publisher},
    run::{self, PATIENCE, Subject},
    target::{self, Target},
};

/// Rounds that everybody has before the server is killed.
const BEFORE: u64 = 20;
/// Rounds that finish while it is away.
const MISSED: u64 = 100;

/// Connects, kills, inserts, starts, resumes.
pub(crate) fn resume(options: &Options, database: &Database) -> Result<()> {
    let (mut target, destination) = run::start(options, Subject::Server, Some(database))?;
    let address = target.address().to_string();
    let seen = until_killed(options, &mut target, &destination)?;
    drop(target);

    let board = Arc::new(Board::new(Clock::start()));
    publish(&destination, &board, BEFORE, MISSED)?;
    let start = Instant::now();
    let target = Target::server(options, database.url(), &address)?;
    target::make_room(options, database.pid())?;
    let ready = start.elapsed();
    let queries = target.metric("datastream_database_queries_total")?;
    let idle = process::private_bytes(target.pid())?;
    let cpu = process::cpu_micros(target.pid())?;

    let after = Start::After { round_id: seen.round_id, seq: BEFORE };
    let plan = Plan { start: after, ..run::plan(options, Subject::Server, &target) };
    let last = BEFORE + MISSED;
    let start = Instant::now();
    let client = Client::start(plan, board.clone());
    while *board.done.borrow() < last {
        ensure!(start.elapsed() < PATIENCE && !client.is_finished(), "not everybody resumed");
        thread::sleep(Duration::from_millis(1));
    }
    let took = start.elapsed();
    let cpu = process::cpu_micros(target.pid())? - cpu;
    let queries = target.metric("datastream_database_queries_total")? - queries;
    let peak = process::peak_bytes(target.pid())?;
    let faults = client.finish(last)?.faults;
    println!("{HEAD_RESUME}");
    println!(
        "| {} {} | {:.2} s | {:.2} s | {queries} | {:.1} µs | {:.1} MB | {:.1} MB | {faults:?} |",
        options.conns,
        options.transport.path(),
        ready.as_secs_f64(),
        took.as_secs_f64(),
        cpu as f64 / (options.conns as f64 * MISSED as f64),
        idle as f64 / 1e6,
        peak as f64 / 1e6,
    );
    ensure!(faults.none(), "not every round came once and in order");
    Ok(())
}

/// What the subscribers had when the server was killed under them.
fn until_killed(options: &Options, target: &mut Target, destination: &Destination) -> Result<Seen> {
    let board = Arc::new(Board::new(Clock::start()));
    let client = Client::start(run::plan(options, Subject::Server, target), board.clone());
    let (client, _) = client.connected(PATIENCE)?;
    publish(destination, &board, 0, BEFORE)?;
    run::drain(&board, BEFORE);
    target.kill()?;
    let start = Instant::now();
    while board.closed.load(Relaxed) < options.conns && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
    let seen = client.finish(BEFORE)?;
    ensure!(seen.faults.lost == 0, "{} rounds were lost before the kill", seen.faults.lost);
    Ok(seen)
}

/// Each round in a transaction of its own.
fn publish(destination: &Destination, board: &Arc<Board>, last: u64, count: u64) -> Result<()> {
    let runtime = database::runtime()?;
    runtime.block_on(async {
        let publisher = Publisher::connect(&runtime, destination, board.clone(), last);
        let mut publisher = publisher.await?;
        for _ in 0..count {
            publisher.publish(1).await?;
        }
        Ok(())
    })
}
