//! The schedule of faults, drawn from the seed before the run.

mod bus;

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::args::Args;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The proxy closes every connection to PostgreSQL and accepts new ones.
    Cut,
    /// The proxy closes every connection and accepts none for a while.
    Refuse,
    /// The proxy forwards no bytes and keeps the connections open.
    Stall,
    /// The proxy closes PostgreSQL's side and keeps the server's side open.
    HalfOpen,
    /// The proxy cuts several times in a row.
    Flap,
    /// `pg_terminate_backend` on the server's listener.
    Terminate,
    /// `pg_terminate_backend` on all sessions of the server.
    TerminateAll,
    /// `kill -9` of a backend: PostgreSQL recovers automatically.
    KillBackend,
    /// An immediate shutdown of PostgreSQL, as in a crash, and a start.
    Immediate,
    /// A fast shutdown of PostgreSQL and a start.
    Fast,
    /// SIGTERM to the server and a start.
    ServerStop,
    /// SIGKILL to the server and a start.
    ServerKill,
    /// SIGKILL to a capture and a start.
    CaptureKill,
    /// SIGTERM to a capture and a start.
    CaptureStop,
    /// A capture is stopped with SIGSTOP for a while.
    CapturePause,
    /// SIGKILL to a node of NATS and a start.
    NatsKill,
    /// SIGKILL to a node of NATS, which stays down for a minute.
    NatsDown,
    /// SIGKILL to two nodes of NATS at once, and a start.
    NatsPair,
    /// A node of NATS is stopped with SIGSTOP for a while.
    NatsPause,
    /// A node of NATS gets the store that it had some seconds ago.
    NatsBack,
    /// Two nodes get such stores, and elect a leader without the third: NATS loses messages.
    NatsBackPair,
    /// The stream is deleted, and made again.
    StreamDelete,
}

/// A fault with its time and duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) hold: Duration,
    /// The node whose link or process fails; unused for faults of PostgreSQL.
    pub(crate) node: usize,
}

/// Sequences of faults that run concurrently: without a bus of the links, and of the processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) sequences: Vec<Vec<Planned>>,
}

/// Relative frequency of each fault.
const WEIGHTS: [(Fault, u32); 12] = [
    (Fault::Cut, 24),
    (Fault::Refuse, 8),
    (Fault::Stall, 12),
    (Fault::HalfOpen, 6),
    (Fault::Flap, 6),
    (Fault::Terminate, 18),
    (Fault::TerminateAll, 6),
    (Fault::KillBackend, 5),
    (Fault::Immediate, 5),
    (Fault::Fast, 5),
    (Fault::ServerStop, 3),
    (Fault::ServerKill, 4),
];

impl Fault {
    fn is_of_link(self) -> bool {
        use Fault::{Cut, Flap, HalfOpen, Refuse, Stall, Terminate, TerminateAll};
        matches!(self, Cut | Refuse | Stall | HalfOpen | Flap | Terminate | TerminateAll)
    }

    /// Whether it is one of a capture, of NATS or of the stream.
    pub(crate) fn is_of_bus(self) -> bool {
        self >= Self::CaptureKill
    }

    /// Whether it is one of NATS or of the stream.
    pub(crate) fn is_of_nats(self) -> bool {
        self >= Self::NatsKill
    }

    /// Whether NATS loses what it acknowledged: by two old stores, or with the stream.
    pub(crate) fn loses(self) -> bool {
        matches!(self, Self::NatsBackPair | Self::StreamDelete)
    }

    fn is_of_server(self) -> bool {
        matches!(self, Self::ServerStop | Self::ServerKill)
    }

    /// One fault in forty lasts long enough that the server notices it by a timeout.
    fn hold(self, rng: &mut Rng) -> Duration {
        let ms = match self {
            Self::Stall | Self::HalfOpen if rng.u8(..40) == 0 => rng.u64(5_500..7_000),
            Self::Refuse if rng.u8(..40) == 0 => rng.u64(1_000..3_000),
            Self::Stall | Self::HalfOpen | Self::Refuse => rng.u64(10..250),
            Self::Immediate | Self::Fast | Self::ServerStop | Self::ServerKill => rng.u64(..200),
            Self::Flap => rng.u64(5..40),
            _ => 0,
        };
        Duration::from_millis(ms)
    }
}

impl Plan {
    /// Draws the schedule.
    pub(crate) fn draw(args: &Args) -> Self {
        if args.bus {
            return bus::draw(args);
        }
        let mut rng = Rng::with_seed(args.seed);
        let (mut link, mut crash, mut at) = (Vec::new(), Vec::new(), Duration::ZERO);
        let end = Duration::from_secs(args.seconds);
        loop {
            // Exponential intervals, as of independent faults, so that some follow each other closely.
            at += args.fault_every.mul_f64(-(1.0 - rng.f64()).ln());
            let fault = pick(&mut rng, &WEIGHTS);
            let hold = fault.hold(&mut rng);
            // A run with one node draws no number here, so its schedule depends on the seed only.
            let node = if args.nodes() > 1 { rng.usize(..args.nodes()) } else { 0 };
            if at >= end {
                return Self { sequences: vec![link, crash] };
            }
            if args.lossy && fault.is_of_server() {
                continue;
            }
            let sequence = if fault.is_of_link() { &mut link } else { &mut crash };
            sequence.push(Planned { at, fault, hold, node });
        }
    }
}

fn pick(rng: &mut Rng, weights: &[(Fault, u32)]) -> Fault {
    let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut ticket = rng.u32(..all);
    for (fault, weight) in weights {
        if ticket < *weight {
            return *fault;
        }
        ticket -= weight;
    }
    Fault::Cut
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.sequences.iter().flatten().collect();
        all.sort_by_key(|planned| planned.at);
        for Planned { at, fault, hold, node } in all {
            let (at, hold, node) = (at.as_secs_f64(), hold.as_millis(), node + 1);
            writeln!(f, "{at:>9.3} s  {fault:?} for {hold} ms, node {node}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn schedule(seed: &str) -> String {
        let args = Args::parse_from(["soak", "--seconds", "600", "--seed", seed]);
        Plan::draw(&args).to_string()
    }

    #[test]
    fn ten_minutes_with_a_bus_have_every_fault_of_it() {
        let args = Args::parse_from(["soak", "--seconds", "600", "--seed", "7", "--bus"]);
        let schedule = Plan::draw(&args).to_string();
        for fault in [
            "CaptureKill",
            "CapturePause",
            "NatsKill",
            "NatsDown for 60000 ms",
            "NatsPair",
            "NatsPause",
            "NatsBack ",
            "NatsBackPair",
            "StreamDelete",
            "Immediate",
            "Refuse",
        ] {
            assert!(schedule.contains(fault), "{fault}:\n{schedule}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert!(schedule("7").lines().count() > 1000);
        assert_eq!(schedule("7"), schedule("7"));
        assert_ne!(schedule("7"), schedule("8"));
    }
}
