//! The cost of an outage: the time until the stream is live again, and the time and memory for a
//! million missed rounds.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use embedded_postgres::Stop;
use tokio_postgres::NoTls;

use crate::{
    database::{self, Database},
    options::Options,
    process,
    target::Target,
};

/// Restarts of PostgreSQL.
const TIMES: usize = 30;
/// Missed rounds, 1,000 per transaction.
const MISSED: f64 = 1e6;
const MISS: &str = "do $$ begin for i in 1..1000 loop \
    insert into rounds (game_id, finished_at) select g.id, clock_timestamp() \
    from games g, generate_series(1, 1000) where slug = 'load'; commit; end loop; end $$";
const CUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where application_name like 'datastream%'";
/// Time between two checks.
const PAUSE: Duration = Duration::from_millis(2);
/// Longer than any step of the measurement.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Measures both and prints a table.
pub(crate) fn outage(options: &Options, database: &mut Database) -> Result<()> {
    let target = Target::server(options, database.url(), "127.0.0.1:0")?;
    println!("| | p50 | p95 | slowest |\n|---|---|---|---|");
    let mut took = Vec::new();
    for _ in 0..TIMES {
        took.push(restart(&target, database)?);
    }
    took.sort_unstable();
    let at = |share: f64| took[((TIMES - 1) as f64 * share).round() as usize].as_millis();
    println!(
        "| PostgreSQL accepts connections -> /readyz, {TIMES} restarts | {} ms | {} ms | {} ms |",
        at(0.5),
        at(0.95),
        at(1.0)
    );
    miss(&target, database)
}

/// Stops PostgreSQL as in a crash and starts it; returns the time from the first accepted connection
/// until the server is live.
fn restart(target: &Target, database: &mut Database) -> Result<Duration> {
    database.cluster()?.stop(Stop::Immediate)?;
    until(|| Ok(!target.is_ready()))?;
    let url = database.url().to_owned();
    thread::scope(|scope| {
        let accepts = scope.spawn(move || until(|| accepts(&url)));
        let live = scope.spawn(|| until(|| Ok(target.is_ready())));
        database.cluster()?.start()?;
        let joined = [accepts, live].map(|thread| thread.join().map_err(|_| ended()));
        let [accepts, live] = joined;
        Ok(live??.saturating_duration_since(accepts??))
    })
}

fn ended() -> anyhow::Error {
    anyhow::anyhow!("a thread ended early")
}

/// Freezes the server, finishes a million rounds, ends its sessions, and continues it.
fn miss(target: &Target, database: &mut Database) -> Result<()> {
    let captured = || target.metric("datastream_rounds_captured_total");
    let (before, idle) = (captured()?, process::peak_bytes(target.pid())?);
    target.signal("STOP")?;
    database.execute(MISS)?;
    database.execute(CUT)?;
    target.signal("CONT")?;
    let begun = Instant::now();
    let ended = until(|| Ok(captured()? - before >= MISSED && target.is_ready()))?;
    println!("\n| a million rounds missed, 1,000 per transaction | |\n|---|---|");
    println!("| until they are published | {:.1} s |", (ended - begun).as_secs_f64());
    let peak = process::peak_bytes(target.pid())?;
    println!(
        "| peak memory, and memory before | {:.0} MB, {:.0} MB |",
        peak as f64 / 1e6,
        idle as f64 / 1e6
    );
    Ok(())
}

fn accepts(url: &str) -> Result<bool> {
    let runtime = database::runtime()?;
    Ok(runtime.block_on(tokio_postgres::connect(url, NoTls)).is_ok())
}

/// Repeats the check until it succeeds; returns the time.
fn until(mut check: impl FnMut() -> Result<bool>) -> Result<Instant> {
    let begun = Instant::now();
    while !check()? {
        ensure!(begun.elapsed() < TIME_LIMIT, "waited for {TIME_LIMIT:?}");
        thread::sleep(PAUSE);
    }
    Ok(Instant::now())
}
