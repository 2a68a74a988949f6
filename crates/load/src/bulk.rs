//! Many rows in one INSERT: the time until every subscriber has received the last one.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    client::Client,
    clock::Clock,
    database::{self, Database},
    options::Options,
    outcome::median,
    process,
    publisher::Publisher,
    run::{self, Subject, TIME_LIMIT},
    run_state::RunState,
};

/// For a million rows to 300 subscribers: 300 million deliveries.
const BULK_TIME_LIMIT: Duration = Duration::from_secs(900);
const MEGABYTE: f64 = 1e6;

/// Repeats the INSERT; prints each time and the median.
pub(crate) fn bulk(options: &Options, database: &Database) -> Result<()> {
    let (target, destination) = run::start(options, Subject::Server, Some(database))?;
    let state = Arc::new(RunState::new(Clock::start()));
    let client = Client::start(run::plan(options, Subject::Server, &target), state.clone());
    let (client, _) = client.connected(TIME_LIMIT)?;
    let runtime = database::runtime()?;
    let publisher = Publisher::connect(&runtime, &destination, state.clone(), 0);
    let mut publisher = runtime.block_on(publisher)?;

    println!(
        "| {} rows in one INSERT, {} {} | INSERT, ms | commit to the last one at the last subscriber, ms |",
        options.rows,
        options.conns,
        options.transport.path()
    );
    println!("|---|---|---|");
    let encoded = target.metric("datastream_frames_encoded_total")?;
    let (mut times, mut last) = (Vec::new(), 0);
    for attempt in 1..=options.pairs {
        let begun = state.clock.micros();
        last = runtime.block_on(publisher.publish_statement(options.rows))?;
        let committed = state.clock.micros();
        let mut done = state.done.subscribe();
        runtime.block_on(async {
            tokio::time::timeout(BULK_TIME_LIMIT, done.wait_for(|&done| done >= last))
                .await?
                .map(drop)?;
            anyhow::Ok(())
        })?;
        let arrived = state.clock.micros();
        let [insert, delivery] = [committed - begun, arrived - committed].map(|us| us as f64 / 1e3);
        println!("| {attempt} | {insert:.1} | {delivery:.1} |");
        times.push(delivery);
    }
    println!("| median | | {:.1} |", median(times));
    let encoded = target.metric("datastream_frames_encoded_total")? - encoded;
    let peak = process::peak_bytes(target.pid())? as f64 / MEGABYTE;
    println!("\npeak memory: {peak:.0} MB");
    println!("rounds encoded for {} subscribers: {encoded} of {last}", options.conns);
    let seen = client.finish(last)?;
    ensure!(seen.faults.none(), "not every round came once and in order: {:?}", seen.faults);
    Ok(())
}
