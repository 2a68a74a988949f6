//! Prints the summary of a run.

use std::time::Duration;

use datastream::internals::BUILD;

use crate::{
    args::Args,
    bus::Event,
    check::Findings,
    faults::Faults,
    subscribers::Subscriber,
    transactions::{Ending, Transaction},
};

/// Most details printed per subscriber, and most refusals.
const DETAILS: usize = 8;
/// At most this part of the rounds of a long run may belong to stretches that NATS lost: what is not
/// compared shows nothing. In a short run, one deleted stream takes most of the time.
const LOST_PART: f64 = 0.25;
const LONG_SECONDS: u64 = 300;
/// The metrics in the summary.
const METRICS: [&str; 16] = [
    "datastream_rounds_captured_total",
    "datastream_rounds_lost_by_database_total",
    "datastream_rounds_skipped_total",
    "datastream_rounds_reconciled_total",
    "datastream_notifications_unknown_total",
    "datastream_listener_connects_total",
    "datastream_resumes_total",
    "datastream_subscriber_refills_total",
    "datastream_rounds_dropped_total",
    "datastream_sessions_closed_total",
    "datastream_bus_claims_total",
    "datastream_bus_deposed_total",
    "datastream_bus_fills_total",
    "datastream_bus_rewritten_total",
    "datastream_bus_holes_total",
    "datastream_bus_left_out_total",
];

/// The content of the summary.
pub(crate) struct Report<'a> {
    pub(crate) args: &'a Args,
    pub(crate) version: &'a str,
    pub(crate) rounds: usize,
    pub(crate) transactions: &'a [Transaction],
    pub(crate) refusals: &'a [String],
    pub(crate) faults: &'a Faults,
    pub(crate) findings: &'a [(Subscriber, Findings)],
    /// Of the last process of each node and capture, by its name.
    pub(crate) metrics: &'a [(String, String)],
    pub(crate) lost: Lost,
}

/// What NATS lost, as the program counts, and what the soak did for it.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// How many times a process counted a loss.
    pub(crate) counted: usize,
    /// How many rounds belong to those stretches, of which neither the order nor the repeats on another
    /// connection are compared.
    pub(crate) rounds: usize,
    pub(crate) events: Vec<(Event, u32)>,
}

impl Report<'_> {
    /// Prints the summary; returns whether every promise was kept.
    pub(crate) fn print(&self) -> bool {
        self.scene();
        self.table();
        self.recoveries();
        for (name, metrics) in self.metrics {
            println!("counted by the last process of {name}:");
            let wanted = |line: &&str| METRICS.iter().any(|name| line.starts_with(name));
            metrics.lines().filter(wanted).for_each(|line| println!("  {line}"));
        }
        let good = self.is_good();
        println!("{}", if good { "nothing lost, nothing twice" } else { "BROKEN" });
        good
    }

    fn is_good(&self) -> bool {
        let kept = |findings: &Findings| !findings.is_bad(self.args.lossy);
        let findings = self.findings.iter().all(|(_, findings)| kept(findings));
        let most = match self.args.seconds {
            LONG_SECONDS.. => LOST_PART,
            _ => 1.0,
        };
        self.refusals.is_empty() && findings && self.lost.rounds as f64 <= self.rounds as f64 * most
    }

    fn scene(&self) {
        let Args { seed, seconds, capture, lossy, bus, .. } = self.args;
        let lossy = if *lossy { ", synchronous_commit off" } else { "" };
        let (version, capture) = (self.version, capture.name());
        let nodes = match self.args.nodes() {
            nodes if *bus => format!(", bus with 3 NATS nodes, 3 captures, {nodes} edges"),
            1 => String::new(),
            nodes => format!(", {nodes} nodes"),
        };
        println!("datastream {BUILD}");
        println!("seed {seed}, {seconds} s, capture {capture}, PostgreSQL {version}{lossy}{nodes}");
        let counts = self.faults.counts();
        let list: Vec<_> = counts.iter().map(|(fault, n)| format!("{fault:?} {n}")).collect();
        println!("{} faults: {}", counts.values().sum::<u64>(), list.join(", "));
        let ended = |wanted: fn(&Ending) -> bool| {
            self.transactions.iter().filter(|tx| wanted(&tx.ending)).count()
        };
        println!(
            "{} rounds; {} transactions, {} rolled back, {} cut off",
            self.rounds,
            self.transactions.len(),
            ended(|ending| matches!(ending, Ending::RolledBack)),
            ended(|ending| matches!(ending, Ending::Unknown)),
        );
        if *bus {
            self.lost();
        }
        let refused = self.refusals.len();
        if refused > 0 {
            println!("{refused} transactions of a game refused:");
        }
        self.refusals.iter().take(DETAILS).for_each(|why| println!("    {why}"));
    }

    fn lost(&self) {
        let Lost { counted, rounds, events } = &self.lost;
        println!(
            "the captures and edges counted {counted} losses of the log by NATS, with {rounds} of \
             {} rounds",
            self.rounds
        );
        events.iter().for_each(|(event, count)| println!("{count} times: {event}"));
    }

    fn table(&self) {
        println!(
            "{:<44}{:>9}{:>8}{:>6}{:>9}{:>6}{:>7}{:>9}{:>12}{:>8}{:>7}",
            "subscriber",
            "connects",
            "resumes",
            "gaps",
            "received",
            "lost",
            "twice",
            "repeated",
            "uncommitted",
            "db lost",
            "order"
        );
        for (subscriber, v) in self.findings {
            println!(
                "{:<44}{:>9}{:>8}{:>6}{:>9}{:>6}{:>7}{:>9}{:>12}{:>8}{:>7}",
                self.name(subscriber),
                v.connections,
                v.resumes,
                v.gaps,
                v.received,
                v.lost,
                v.twice,
                v.repeats,
                v.uncommitted,
                v.lost_by_postgresql,
                v.out_of_order
            );
            v.details.iter().take(DETAILS).for_each(|detail| println!("    {detail}"));
        }
        let sum = |count: fn(&Findings) -> usize| {
            self.findings.iter().map(|(_, findings)| count(findings)).sum::<usize>()
        };
        println!(
            "lost {}, twice {}, uncommitted {}, out of order {}; gaps {}, repeated after a restart, \
             from the database or on another node {}, lost by PostgreSQL {}",
            sum(|v| v.lost),
            sum(|v| v.twice),
            sum(|v| v.uncommitted),
            sum(|v| v.out_of_order),
            sum(|v| v.gaps),
            sum(|v| v.repeats),
            sum(|v| v.lost_by_postgresql)
        );
    }

    fn name(&self, subscriber: &Subscriber) -> String {
        let Subscriber { transport, behavior, selection, node, .. } = subscriber;
        let path = if selection.path.is_empty() { "everything" } else { selection.path };
        let position = match node {
            _ if self.args.nodes() == 1 => String::new(),
            Some(node) => format!("{}, ", node + 1),
            None => "all, ".to_owned(),
        };
        format!("{position}{transport:?} {behavior:?} {path}")
    }

    fn recoveries(&self) {
        let all = self.faults.recoveries();
        let at = |share: f64| all.get(((all.len() as f64 - 1.0) * share).round() as usize);
        if let (Some(p50), Some(p95), Some(max)) = (at(0.5), at(0.95), at(1.0)) {
            let ms = |d: &Duration| d.as_millis();
            println!(
                "PostgreSQL accepts connections -> caught up and live: {} times, p50 {} ms, p95 {} \
                 ms, max {} ms",
                all.len(),
                ms(p50),
                ms(p95),
                ms(max)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn is_good(refusals: &[String], lost: usize) -> bool {
        let arguments = ["soak", "--seconds", "300"];
        let (args, faults) = (Args::parse_from(arguments), Faults::default());
        let report = Report {
            args: &args,
            version: "18",
            rounds: 100,
            transactions: &[],
            refusals,
            faults: &faults,
            findings: &[],
            metrics: &[],
            lost: Lost { rounds: lost, ..Lost::default() },
        };
        report.is_good()
    }

    #[test]
    fn a_refused_write_of_a_game_fails_the_run() {
        assert!(is_good(&[], 0));
        assert!(!is_good(&["a trigger raised".to_owned()], 0));
    }

    #[test]
    fn a_long_run_fails_that_compares_less_than_three_quarters_of_its_rounds() {
        assert!(is_good(&[], 25));
        assert!(!is_good(&[], 26));
    }
}
