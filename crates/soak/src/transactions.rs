//! The log of the writers' transactions: start and commit of each, on one logical clock.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies one round of one transaction. The writer puts it into `extras`, because PostgreSQL may
/// assign an id twice after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub(crate) struct Token {
    pub(crate) tx: usize,
    pub(crate) n: u32,
}

/// The end of a transaction, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection broke before the response to the commit.
    Unknown,
    /// PostgreSQL confirmed the commit, at this time.
    Committed(u64),
    /// The writer rolled it back.
    RolledBack,
}

/// A transaction of a writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// The time before `begin` was sent.
    pub(crate) began: u64,
    pub(crate) ending: Ending,
}

/// All transactions, by number.
#[derive(Debug, Default)]
pub(crate) struct TransactionLog {
    clock: AtomicU64,
    transactions: Mutex<Vec<Transaction>>,
    refusals: Mutex<Vec<String>>,
}

impl TransactionLog {
    /// The next time of the logical clock.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// When a transaction began.
    pub(crate) fn began(&self, tx: usize) -> Option<u64> {
        self.transactions.lock().get(tx).map(|tx| tx.began)
    }

    /// Adds a transaction; returns its number.
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

    /// Records that PostgreSQL refused a valid transaction.
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
