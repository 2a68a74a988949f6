//! All subscribers reconnect at once after a kill of the server and resume.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    client::{Client, Plan, Seen, Start},
    clock::Clock,
    database::{self, Database},
    options::Options,
    outcome::HEAD_RESUME,
    process,
    publisher::{Destination, Publisher},
    run::{self, Subject, TIME_LIMIT},
    run_state::RunState,
    target::{self, Target},
};

/// Rounds that every subscriber receives before the kill.
const BEFORE: u64 = 20;
/// Rounds that finish while the server is down.
const MISSED: u64 = 100;

/// Connects, kills, inserts, starts, resumes.
pub(crate) fn resume(options: &Options, database: &Database) -> Result<()> {
    let (mut target, destination) = run::start(options, Subject::Server, Some(database))?;
    let address = target.address().to_string();
    let seen = until_killed(options, &mut target, &destination)?;
    drop(target);

    let state = Arc::new(RunState::new(Clock::start()));
    publish(&destination, &state, BEFORE, MISSED)?;
    let start = Instant::now();
    let target = Target::server(options, database.url(), &address)?;
    target::pin_others(options, database.pid())?;
    let ready = start.elapsed();
    let queries = target.metric("datastream_database_queries_total")?;
    let idle = process::private_bytes(target.pid())?;
    let cpu = process::cpu_micros(target.pid())?;

    let after = Start::After { round_id: seen.round_id, seq: BEFORE };
    let plan = Plan { start: after, ..run::plan(options, Subject::Server, &target) };
    let last = BEFORE + MISSED;
    let start = Instant::now();
    let client = Client::start(plan, state.clone());
    while *state.done.borrow() < last {
        ensure!(
            start.elapsed() < TIME_LIMIT && !client.is_finished(),
            "not every subscriber resumed"
        );
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

/// Runs subscribers until the server is killed; returns what they received.
fn until_killed(options: &Options, target: &mut Target, destination: &Destination) -> Result<Seen> {
    let state = Arc::new(RunState::new(Clock::start()));
    let client = Client::start(run::plan(options, Subject::Server, target), state.clone());
    let (client, _) = client.connected(TIME_LIMIT)?;
    publish(destination, &state, 0, BEFORE)?;
    run::drain(&state, BEFORE);
    target.kill()?;
    let start = Instant::now();
    while state.closed.load(Relaxed) < options.conns && start.elapsed() < TIME_LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
    let seen = client.finish(BEFORE)?;
    ensure!(seen.faults.lost == 0, "{} rounds were lost before the kill", seen.faults.lost);
    Ok(seen)
}

/// Publishes each round in its own transaction.
fn publish(destination: &Destination, state: &Arc<RunState>, last: u64, count: u64) -> Result<()> {
    let runtime = database::runtime()?;
    runtime.block_on(async {
        let publisher = Publisher::connect(&runtime, destination, state.clone(), last);
        let mut publisher = publisher.await?;
        for _ in 0..count {
            publisher.publish(1).await?;
        }
        Ok(())
    })
}
