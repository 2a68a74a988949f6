//! A table of all figures that have a target, each compared with the floor.

use anyhow::{Result, ensure};

use crate::{
    compare::{self, Pair},
    database::Database,
    options::{Options, Transport},
    outcome::{HEAD, Outcome},
};

/// The target of a figure.
#[derive(Clone, Copy)]
enum Goal {
    /// The server's figure is at most this.
    AtMost(f64),
    /// The ratio of server to floor is at most this.
    RatioAtMost(f64),
    /// The ratio of server to floor is at least this.
    RatioAtLeast(f64),
}

/// A figure with its target.
type Figure = (&'static str, fn(&Outcome) -> f64, Goal);

/// One load and its figures.
struct Load {
    transport: Transport,
    conns: usize,
    rate: Option<f64>,
    window: u64,
    batch: u64,
    figures: &'static [Figure],
}

const CPU: Figure = ("CPU µs/delivery", |run| run.cpu_us, Goal::RatioAtMost(1.15));
const MEMORY: Figure = ("idle bytes/conn", |run| run.idle_bytes, Goal::AtMost(1024.0));
const CONNECTS: Figure = ("connects/s", |run| run.connects_per_s, Goal::RatioAtLeast(0.8));
const P99: Figure = ("publish to client, p99 ms", |run| run.publish_ms.p99, Goal::RatioAtMost(1.2));
const FOUR: Figure = ("deliveries/s", |run| run.deliveries_per_s, Goal::RatioAtLeast(2.0));
const EIGHT: Figure = ("deliveries/s", |run| run.deliveries_per_s, Goal::RatioAtLeast(5.0));

/// A load with one round at a time.
const fn single(transport: Transport, conns: usize, figures: &'static [Figure]) -> Load {
    Load { transport, conns, rate: None, window: 1, batch: 1, figures }
}

const LOADS: [Load; 8] = [
    single(Transport::Ws, 1_000, &[CPU]),
    single(Transport::Sse, 1_000, &[CPU]),
    single(Transport::Ws, 10_000, &[CPU, MEMORY, CONNECTS]),
    single(Transport::Sse, 10_000, &[CPU, MEMORY, CONNECTS]),
    Load { window: 4, ..single(Transport::Ws, 10_000, &[FOUR]) },
    Load { window: 2, batch: 8, ..single(Transport::Ws, 10_000, &[EIGHT]) },
    Load { rate: Some(10.0), ..single(Transport::Ws, 10_000, &[P99]) },
    Load { rate: Some(10.0), ..single(Transport::Sse, 10_000, &[P99]) },
];

/// Runs every load with the server on its own core; prints every run and the table.
pub(crate) fn table(options: &Options, database: &Database) -> Result<()> {
    println!("{HEAD}");
    let (mut rows, mut faults) = (Vec::new(), 0);
    for load in &LOADS {
        let options = load.options(options);
        let pairs = compare::pairs(&options, database)?;
        faults += pairs.iter().filter(|(server, _)| !server.faults.none()).count();
        let subject = format!("{} {}", load.conns, load.transport.path());
        let row = |figure| row(&subject, &options.pace_text(), figure, &pairs);
        rows.extend(load.figures.iter().map(row));
    }
    println!("\nMedians of {} pairs:\n", options.pairs);
    println!(
        "| | pace | figure | server | floor | server / floor | target | |\n|---|---|---|---|---|---|---|---|"
    );
    rows.iter().for_each(|row| println!("{row}"));
    println!("\nRuns in which a round was lost, repeated or out of order: {faults}");
    ensure!(faults == 0, "not every round came once and in order");
    Ok(())
}

fn row(subject: &str, pace: &str, figure: &Figure, pairs: &[Pair]) -> String {
    let (name, read, goal) = *figure;
    let [server, floor, ratio] = compare::medians(pairs, read);
    let (goal, reached) = match goal {
        Goal::AtMost(most) => (format!("≤ {most}"), server <= most),
        Goal::RatioAtMost(most) => (format!("≤ {most} × floor"), ratio <= most),
        Goal::RatioAtLeast(least) => (format!("≥ {least} × floor"), ratio >= least),
    };
    let result = if reached { "reached" } else { "**not reached**" };
    format!(
        "| {subject} | {pace} | {name} | {server:.2} | {floor:.2} | {ratio:.2} | {goal} | {result} |"
    )
}

impl Load {
    fn options(&self, given: &Options) -> Options {
        let Self { transport, conns, rate, window, batch, .. } = *self;
        Options { transport, conns, rate, window, batch, pin: true, json: false, ..given.clone() }
    }
}
