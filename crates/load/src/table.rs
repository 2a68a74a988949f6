//! All figures that have a bar, each beside the floor, in one table.

use anyhow::{Result, ensure};

use crate::{
    compare::{self, Pair},
    database::Database,
    options::{Options, Transport},
    outcome::{HEAD, Outcome},
};

/// What a figure has to reach.
#[derive(Clone, Copy)]
enum Bar {
    /// The server's, at most so much.
    AtMost(f64),
    /// The server's over the floor's, at most so much.
    RatioAtMost(f64),
    /// The same, at least so much.
    RatioAtLeast(f64),
}

/// A figure with its bar.
type Figure = (&'static str, fn(&Outcome) -> f64, Bar);

/// One load, and what is read from it.
struct Load {
    transport: Transport,
    conns: usize,
    rate: Option<f64>,
    window: u64,
    batch: u64,
    figures: &'static [Figure],
}

const CPU: Figure = ("CPU µs/delivery", |run| run.cpu_us, Bar::RatioAtMost(1.15));
const MEMORY: Figure = ("idle bytes/conn", |run| run.idle_bytes, Bar::AtMost(1024.0));
const CONNECTS: Figure = ("connects/s", |run| run.connects_per_s, Bar::RatioAtLeast(0.8));
const P99: Figure = ("publish to client, p99 ms", |run| run.publish_ms.p99, Bar::RatioAtMost(1.2));
const FOUR: Figure = ("deliveries/s", |run| run.deliveries_per_s, Bar::RatioAtLeast(2.0));
const EIGHT: Figure = ("deliveries/s", |run| run.deliveries_per_s, Bar::RatioAtLeast(5.0));

/// One round at a time.
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

/// Runs every load with the server on a core of its own; prints every run, then the table.
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
        "| | pace | figure | server | floor | server / floor | bar | |\n|---|---|---|---|---|---|---|---|"
    );
    rows.iter().for_each(|row| println!("{row}"));
    println!("\nRuns in which a round was lost, repeated or out of order: {faults}");
    ensure!(faults == 0, "not every round came once and in order");
    Ok(())
}

fn row(subject: &str, pace: &str, figure: &Figure, pairs: &[Pair]) -> String {
    let (name, read, bar) = *figure;
    let [server, floor, ratio] = compare::medians(pairs, read);
    let (bar, reached) = match bar {
        Bar::AtMost(most) => (format!("≤ {most}"), server <= most),
        Bar::RatioAtMost(most) => (format!("≤ {most} × floor"), ratio <= most),
        Bar::RatioAtLeast(least) => (format!("≥ {least} × floor"), ratio >= least),
    };
    let verdict = if reached { "reached" } else { "**not reached**" };
    format!(
        "| {subject} | {pace} | {name} | {server:.2} | {floor:.2} | {ratio:.2} | {bar} | {verdict} |"
    )
}

impl Load {
    fn options(&self, given: &Options) -> Options {
        let Self { transport, conns, rate, window, batch, .. } = *self;
        Options { transport, conns, rate, window, batch, pin: true, json: false, ..given.clone() }
    }
}
