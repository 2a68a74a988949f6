//! What the writers know of their transactions: when they began and when they were committed, on
//! one clock that only counts.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One round of one transaction: written into its `extras`, so that it is told from every other
/// even where PostgreSQL gives an id twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub(crate) struct Token {
    pub(crate) tx: usize,
    pub(crate) n: u32,
}

/// How a transaction ended, as far as its writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection broke before the answer came: the table knows.
    Unknown,
    /// PostgreSQL said so, at this moment.
    Committed(u64),
    /// Wanted so.
    RolledBack,
}

/// A transaction of a writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Before `begin` was sent.
    pub(crate) began: u64,
    pub(crate) ending: Ending,
}

/// All transactions, by number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    clock: AtomicU64,
    transactions: Mutex<Vec<Transaction>>,
    refusals: Mutex<Vec<String>>,
}

impl Ledger {
    /// The next moment.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A new transaction: its number.
    pub(crate) fn begin(&self) -> usize {
        let mut all = self.transactions.lock();
        all.push(Transaction { began: self.now(), ending: Ending::Unknown });
        all.len() - 1
    }

    pub(crate) fn committed(&self, tx: usize) {
        self.end(tx, Ending::Committed(self.now()));
    }

    pub(crate) fn rolled_back(&self, tx: usize) {
        self.end(tx, Ending::RolledBack);
    }

    /// PostgreSQL refused a transaction that was in order.
    pub(crate) fn refused(&self, why: String) {
        self.refusals.lock().push(why);
    }

    pub(crate) fn refusals(&self) -> Vec<String> {
        self.refusals.lock().clone()
    }

    fn end(&self, tx: usize, ending: Ending) {
        let mut all = self.transactions.lock();
        if let Some(transaction) = all.get_mut(tx) {
            transaction.ending = ending;
        }
    }

    pub(crate) fn transactions(&self) -> Vec<Transaction> {
        self.transactions.lock().clone()
    }
}
