//! The database queries that many connects cause: none, once the server is warm.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    client::Client,
    clock::Clock,
    database::Database,
    options::Options,
    run::{self, Subject, TIME_LIMIT},
    run_state::RunState,
};

const STATEMENTS: &str = "select coalesce(sum(calls), 0) from pg_stat_statements
    where query not like '%pg_stat_statements%'";
/// Long enough to count the polls of an idle server.
const IDLE: Duration = Duration::from_secs(3);

/// Counts the statements while idle, then those during the connects.
pub(crate) fn connects(options: &Options, database: &mut Database) -> Result<()> {
    database.execute("create extension if not exists pg_stat_statements")?;
    let (target, _) = run::start(options, Subject::Server, Some(database))?;
    thread::sleep(IDLE);
    let before = statements(database)?;
    let idle_since = Instant::now();
    thread::sleep(IDLE);
    let idle = (statements(database)? - before) / idle_since.elapsed().as_secs_f64();

    let queries = target.metric("datastream_database_queries_total")?;
    let before = statements(database)?;
    let state = Arc::new(RunState::new(Clock::start()));
    let start = Instant::now();
    let client = Client::start(run::plan(options, Subject::Server, &target), state);
    let (client, connecting) = client.connected(TIME_LIMIT)?;
    let busy = statements(database)? - before;
    let seconds = start.elapsed().as_secs_f64();
    let queries = target.metric("datastream_database_queries_total")? - queries;
    client.finish(0)?;

    println!("| {} connects, {} | |\n|---|---|", options.conns, options.transport.path());
    println!("| time | {:.2} s |", connecting.as_secs_f64());
    println!("| datastream_database_queries_total | +{queries} |");
    println!("| statements in PostgreSQL meanwhile | {busy} ({:.1}/s) |", busy / seconds);
    println!("| statements while idle | {idle:.1}/s |");
    Ok(())
}

fn statements(database: &Database) -> Result<f64> {
    let rows = database.query(STATEMENTS)?;
    let count = rows.first().and_then(|row| row.first()).context("no count")?;
    Ok(count.parse()?)
}
