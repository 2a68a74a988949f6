//! The schedule of faults with a bus: of the edges, the captures, PostgreSQL, and NATS.

use std::time::Duration;

use fastrand::Rng;

use super::{Fault, Plan, Planned, pick};
use crate::args::Args;

/// Faults of a kind happen so many times less often than --fault-every says, since each takes longer.
const EDGES_EVERY: u32 = 8;
const CAPTURES_EVERY: u32 = 32;
const DATABASE_EVERY: u32 = 48;

const EDGES: [(Fault, u32); 7] = [
    (Fault::Cut, 24),
    (Fault::Refuse, 8),
    (Fault::Stall, 12),
    (Fault::HalfOpen, 6),
    (Fault::Flap, 6),
    (Fault::ServerStop, 3),
    (Fault::ServerKill, 4),
];
const CAPTURES: [(Fault, u32); 3] =
    [(Fault::CaptureKill, 3), (Fault::CapturePause, 3), (Fault::CaptureStop, 1)];
const DATABASE: [(Fault, u32); 5] = [
    (Fault::Terminate, 4),
    (Fault::TerminateAll, 2),
    (Fault::KillBackend, 2),
    (Fault::Immediate, 4),
    (Fault::Fast, 1),
];
/// Each of them in turn, in an order of chance: a short run has other ones with another seed.
const NATS: [Fault; 8] = [
    Fault::NatsKill,
    Fault::NatsKill,
    Fault::NatsPause,
    Fault::NatsPair,
    Fault::NatsDown,
    Fault::NatsBack,
    Fault::NatsBackPair,
    Fault::StreamDelete,
];
const DOWN: Duration = Duration::from_secs(60);

/// Draws the schedule.
pub(super) fn draw(args: &Args) -> Plan {
    let mut rng = Rng::with_seed(args.seed);
    let mut sequence = |weights: &[(Fault, u32)], every: u32| {
        let (mut planned, mut at) = (Vec::new(), Duration::ZERO);
        loop {
            at += (args.fault_every * every).mul_f64(-(1.0 - rng.f64()).ln());
            if at.as_secs() >= args.seconds {
                return planned;
            }
            let fault = pick(&mut rng, weights);
            let hold = match fault {
                Fault::CapturePause => millis(&mut rng, 500, 8_000),
                Fault::CaptureKill | Fault::CaptureStop => millis(&mut rng, 0, 3_000),
                _ => fault.hold(&mut rng),
            };
            planned.push(Planned { at, fault, hold, node: rng.usize(..args.nodes()) });
        }
    };
    let mut sequences = vec![
        sequence(&EDGES, EDGES_EVERY),
        sequence(&CAPTURES, CAPTURES_EVERY),
        sequence(&DATABASE, DATABASE_EVERY),
    ];
    sequences.push(nats(args, &mut rng));
    Plan { sequences }
}

/// One fault after the other. Between two of them NATS elects a leader, and rounds flow.
fn nats(args: &Args, rng: &mut Rng) -> Vec<Planned> {
    let (mut planned, mut deck, mut at) = (Vec::new(), Vec::new(), millis(rng, 2_000, 6_000));
    while at.as_secs() < args.seconds {
        if deck.is_empty() {
            deck = NATS.to_vec();
            rng.shuffle(&mut deck);
        }
        let fault = deck.pop().unwrap_or(Fault::NatsKill);
        let hold = match fault {
            Fault::NatsDown => DOWN.min(Duration::from_secs(args.seconds) / 4),
            Fault::NatsBack | Fault::NatsBackPair => millis(rng, 2_000, 5_000),
            Fault::NatsPause => millis(rng, 1_000, 8_000),
            _ => millis(rng, 0, 4_000),
        };
        planned.push(Planned { at, fault, hold, node: rng.usize(..6) });
        at += hold + millis(rng, 8_000, 16_000);
    }
    planned
}

fn millis(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least..most))
}
