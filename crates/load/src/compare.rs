//! Runs server and floor alternately, so that other load on the machine affects both equally.

use anyhow::Result;

use crate::{
    database::Database,
    options::Options,
    outcome::{HEAD, Outcome, median},
    run::{self, Subject},
};

/// The name of a figure and the function that reads it.
type Figure = (&'static str, fn(&Outcome) -> f64);

const FIGURES: [Figure; 6] = [
    ("CPU µs/delivery", |run| run.cpu_us),
    ("deliveries/s", |run| run.deliveries_per_s),
    ("publish to client, p50 ms", |run| run.publish_ms.p50),
    ("publish to client, p99 ms", |run| run.publish_ms.p99),
    ("idle bytes/conn", |run| run.idle_bytes),
    ("connects/s", |run| run.connects_per_s),
];

/// A run of the server, and the floor's before it.
pub(crate) type Pair = (Outcome, Outcome);

/// Runs the pairs; prints every run and the medians. A ratio is the median of the ratios of all pairs.
pub(crate) fn compare(options: &Options, database: &Database) -> Result<()> {
    if !options.json {
        println!("{HEAD}");
    }
    let pairs = pairs(options, database)?;
    if options.json {
        print_json(&pairs);
    } else {
        print_table(options, &pairs);
    }
    Ok(())
}

/// Runs the pairs and prints every run.
pub(crate) fn pairs(options: &Options, database: &Database) -> Result<Vec<Pair>> {
    let mut pairs = Vec::with_capacity(options.pairs);
    for _ in 0..options.pairs {
        let floor = run::run(options, Subject::Floor, None)?;
        floor.print(options.json)?;
        let server = run::run(options, Subject::Server, Some(database))?;
        server.print(options.json)?;
        pairs.push((server, floor));
    }
    Ok(pairs)
}

fn print_table(options: &Options, pairs: &[Pair]) {
    let (conns, path, pace) = (options.conns, options.transport.path(), options.pace_text());
    println!("\nMedians of {} pairs, {conns} {path}, {pace}:\n", pairs.len());
    println!("| | server | floor | server / floor |\n|---|---|---|---|");
    for (name, figure) in FIGURES {
        let [server, floor, ratio] = medians(pairs, figure);
        println!("| {name} | {server:.2} | {floor:.2} | {ratio:.2} |");
    }
}

fn print_json(pairs: &[Pair]) {
    for (figure, read) in FIGURES {
        let [server, floor, ratio] = medians(pairs, read);
        let line = serde_json::json!({
            "figure": figure, "server": server, "floor": floor, "ratio": ratio
        });
        println!("{line}");
    }
}

/// The medians of the servers, of the floors and of the ratios.
pub(crate) fn medians(pairs: &[Pair], figure: fn(&Outcome) -> f64) -> [f64; 3] {
    [
        median(pairs.iter().map(|(server, _)| figure(server))),
        median(pairs.iter().map(|(_, floor)| figure(floor))),
        median(pairs.iter().map(|(server, floor)| figure(server) / figure(floor))),
    ]
}
