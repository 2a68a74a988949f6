//! What an outage costs: how soon the stream is live after it, and what it takes to bring a million
//! rounds that were missed.

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

/// Stops and starts of PostgreSQL.
const TIMES: usize = 30;
/// Rounds that are missed, 1,000 to a transaction.
const MISSED: f64 = 1e6;
const MISS: &str = "do $$ begin for i in 1..1000 loop \
    insert into rounds (game_id, finished_at) select g.id, clock_timestamp() \
    from games g, generate_series(1, 1000) where slug = 'load'; commit; end loop; end $$";
const CUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where application_name like 'datastream%'";
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures both, and prints a table.
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

/// Stops PostgreSQL as a crash would, and starts it; how long the server was not live though PostgreSQL
/// took connections.
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

/// Freezes the server, finishes a million rounds, cuts its link, and lets it go on.
fn miss(target: &Target, database: &mut Database) -> Result<()> {
    let captured = || target.metric("datastream_rounds_captured_total");
    let (before, idle) = (captured()?, process::peak_bytes(target.pid())?);
    target.signal("STOP")?;
    database.execute(MISS)?;
    database.execute(CUT)?;
    target.signal("CONT")?;
    let begun = Instant::now();
    let ended = until(|| Ok(captured()? - before >= MISSED && target.is_ready()))?;
    println!("\n| a million rounds missed, 1,000 to a transaction | |\n|---|---|");
    println!("| until they are on the stream | {:.1} s |", (ended - begun).as_secs_f64());
    let peak = process::peak_bytes(target.pid())?;
    println!(
        "| memory at the peak, and before | {:.0} MB, {:.0} MB |",
        peak as f64 / 1e6,
        idle as f64 / 1e6
    );
    Ok(())
}

fn accepts(url: &str) -> Result<bool> {
    let runtime = database::runtime()?;
    Ok(runtime.block_on(tokio_postgres::connect(url, NoTls)).is_ok())
}

/// Looks until it is so; when that was.
fn until(mut look: impl FnMut() -> Result<bool>) -> Result<Instant> {
    let begun = Instant::now();
    while !look()? {
        ensure!(begun.elapsed() < PATIENCE, "waited for {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
    Ok(Instant::now())
}
