//! The schedule of faults: drawn from the seed before anything runs.

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::args::Args;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Every connection to PostgreSQL is ended; new ones pass.
    Cut,
    /// No connection to PostgreSQL for a while.
    Refuse,
    /// Bytes stand still, nobody is told.
    Stall,
    /// PostgreSQL's side is gone and ours is not told.
    HalfOpen,
    /// Cut again and again.
    Flap,
    /// An administrator ends our listener.
    Terminate,
    /// An administrator ends all our sessions.
    TerminateAll,
    /// kill -9 of a backend: PostgreSQL recovers by itself.
    KillBackend,
    /// PostgreSQL stops as in a crash, and is started again.
    Immediate,
    /// PostgreSQL is restarted in order.
    Fast,
    /// The server is told to stop, and started again.
    ServerStop,
    /// The server is killed, and started again.
    ServerKill,
}

/// A fault with its moment and how long it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) hold: Duration,
    /// Whose link or process it is, where it is one node's.
    pub(crate) node: usize,
}

/// Link faults and crashes have a lane each, so that they overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) link: Vec<Planned>,
    pub(crate) crash: Vec<Planned>,
}

/// How often each fault comes, against the others.
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

    fn is_of_server(self) -> bool {
        matches!(self, Self::ServerStop | Self::ServerKill)
    }

    /// One time in forty it holds long enough to be noticed by silence alone.
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
        let mut rng = Rng::with_seed(args.seed);
        let (mut plan, mut at) = (Self::default(), Duration::ZERO);
        let end = Duration::from_secs(args.seconds);
        loop {
            // Exponential intervals: faults come together as often as they do in life.
            at += args.fault_every.mul_f64(-(1.0 - rng.f64()).ln());
            let fault = pick(&mut rng);
            let hold = fault.hold(&mut rng);
            // One node draws nothing: its schedule is that of its seed, whatever others there are.
            let node = if args.nodes > 1 { rng.usize(..usize::from(args.nodes)) } else { 0 };
            if at >= end {
                return plan;
            }
            if args.lossy && fault.is_of_server() {
                continue;
            }
            let lane = if fault.is_of_link() { &mut plan.link } else { &mut plan.crash };
            lane.push(Planned { at, fault, hold, node });
        }
    }
}

fn pick(rng: &mut Rng) -> Fault {
    let all: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut ticket = rng.u32(..all);
    for (fault, weight) in WEIGHTS {
        if ticket < weight {
            return fault;
        }
        ticket -= weight;
    }
    Fault::Cut
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.link.iter().chain(&self.crash).collect();
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
    fn one_seed_gives_one_schedule() {
        assert!(schedule("7").lines().count() > 1000);
        assert_eq!(schedule("7"), schedule("7"));
        assert_ne!(schedule("7"), schedule("8"));
    }
}
