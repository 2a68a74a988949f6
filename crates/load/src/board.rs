//! What the client and the publisher tell each other while a run is under way.

use std::{
    ops::RangeInclusive,
    sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, Release},
    },
};

use tokio::sync::watch;

use crate::clock::Clock;

/// Rounds whose marks are kept: far more than are ever on their way.
const MARKS: u64 = 1 << 16;
/// A mark that is not set yet.
const UNSET: i64 = i64::MIN;

/// Times of something that happened to each round, by sequence number.
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

/// Shared by the client's thread, the publisher's and the one that measures.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) clock: Clock,
    /// Connections that have their head and their seed.
    pub(crate) ready: AtomicUsize,
    pub(crate) deliveries: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) closed: AtomicUsize,
    /// Whether latencies count: not while warming up.
    pub(crate) recording: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// Every connection has all rounds up to this one.
    pub(crate) done: watch::Sender<u64>,
    /// When the publisher's commit returned.
    pub(crate) committed: Marks,
    /// When a plain LISTEN connection had the notification; `None` where nobody listens.
    pub(crate) notified: Option<Marks>,
}

impl Board {
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

    /// Before rounds are published: their slots may hold the marks of older ones.
    pub(crate) fn clear(&self, seqs: RangeInclusive<u64>) {
        for seq in seqs {
            self.committed.set(seq, UNSET);
            self.notified.iter().for_each(|notified| notified.set(seq, UNSET));
        }
    }
}
