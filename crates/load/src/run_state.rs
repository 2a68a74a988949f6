//! State that the client and the publisher share during a run.

use std::{
    ops::RangeInclusive,
    sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, Release},
    },
};

use tokio::sync::watch;

use crate::clock::Clock;

/// Rounds whose marks are kept: far more than are ever in flight.
const MARKS: u64 = 1 << 16;
/// A mark that is not set.
const UNSET: i64 = i64::MIN;

/// The time of one event per round, by sequence number.
#[derive(Debug)]
pub(crate) struct Marks(Box<[AtomicI64]>);

impl Default for Marks {
    fn default() -> Self {
        Self((0..MARKS).map(|_| AtomicI64::new(UNSET)).collect())
    }
}

impl Marks {
    pub(crate) fn set(&self, seq: u64, micros: i64) {
        self.slot(seq).store(micros, Release);
    }

    pub(crate) fn get(&self, seq: u64) -> Option<i64> {
        Some(self.slot(seq).load(Relaxed)).filter(|&micros| micros != UNSET)
    }

    fn slot(&self, seq: u64) -> &AtomicI64 {
        &self.0[(seq % MARKS) as usize]
    }
}

/// Shared by the threads of the client, the publisher and the measurement.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) clock: Clock,
    /// Connections that have received their response head and their seed.
    pub(crate) ready: AtomicUsize,
    pub(crate) deliveries: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) closed: AtomicUsize,
    /// Whether latencies are recorded: not during the warm-up.
    pub(crate) recording: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// Every connection has received all rounds up to this one.
    pub(crate) done: watch::Sender<u64>,
    /// The time at which the publisher's commit returned.
    pub(crate) committed: Marks,
    /// The time at which a plain LISTEN connection received the notification; `None` without one.
    pub(crate) notified: Option<Marks>,
}

impl RunState {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            ready: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            closed: AtomicUsize::new(0),
            recording: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            done: watch::Sender::new(0),
            committed: Marks::default(),
            notified: None,
        }
    }

    /// Clears the marks of rounds before they are published: their slots may hold those of older ones.
    pub(crate) fn clear(&self, seqs: RangeInclusive<u64>) {
        for seq in seqs {
            self.committed.set(seq, UNSET);
            self.notified.iter().for_each(|notified| notified.set(seq, UNSET));
        }
    }
}
