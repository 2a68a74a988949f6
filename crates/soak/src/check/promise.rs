//! When a resume must be exact: each round once, on whatever server.

use super::Expected;
use crate::{
    args::Args,
    faults::Faults,
    losses::Stretch,
    subscribers::ConnectionRecord,
    testbed::{EDGE_ROUNDS, HUB_ROUNDS},
};

/// What the servers promise.
#[derive(Debug)]
pub(crate) enum Promise {
    /// One server on a database. `lapses`: when the database may have been away for longer than a
    /// server answers resumes exactly.
    OneNode { lapses: Vec<(u64, u64)> },
    /// A server does not know what another one delivered.
    SeveralNodes,
    /// All edges have one stream, but for what NATS lost.
    Bus { lost: Vec<Stretch> },
}

impl Promise {
    pub(crate) fn new(args: &Args, faults: &Faults, lost: Vec<Stretch>) -> Self {
        match args.nodes() {
            _ if args.bus => Self::Bus { lost },
            1 => Self::OneNode { lapses: faults.lapses() },
            _ => Self::SeveralNodes,
        }
    }

    pub(super) fn is_of_bus(&self) -> bool {
        matches!(self, Self::Bus { .. })
    }

    /// Whether NATS lost the log between these times.
    pub(super) fn has_lost(&self, from: u64, until: u64) -> bool {
        let Self::Bus { lost } = self else { return false };
        lost.iter().any(|it| it.from <= until && from <= it.until)
    }
}

impl Expected {
    /// Whether the contract allows repeats after this resume. It does if another process delivered
    /// the named round, if the round is older than the process or than the hub's recent rounds, if
    /// several nodes stream the database, or if the process could not know whether one does. With a bus it
    /// does if NATS lost the log there, or if the round is older than the hub's recent ones.
    pub(super) fn may_repeat(
        &self,
        connection: &ConnectionRecord,
        before: Option<&ConnectionRecord>,
        games: &[&str],
    ) -> bool {
        let Some((named_id, named)) = connection.after else { return false };
        let another = before.is_some_and(|before| before.process != connection.process);
        let from = self.transactions.get(named.tx).map_or(0, |tx| tx.began);
        let held = if self.promise.is_of_bus() { EDGE_ROUNDS } else { HUB_ROUNDS };
        let beyond = games.iter().any(|game| {
            let commits = self.commits.get(*game).map_or(&[][..], Vec::as_slice);
            let later = |at| commits.partition_point(|commit| *commit <= at);
            later(connection.connected) - later(from).min(later(connection.connected))
                > held * 3 / 4
        });
        let start = self.starts.get(&connection.process).copied().unwrap_or(0);
        let at = connection.connected;
        let inexact = match &self.promise {
            Promise::OneNode { lapses } => {
                let has_lapsed = lapses.iter().any(|(begun, end)| (*begun..=*end).contains(&at));
                has_lapsed || another || from < start
            }
            Promise::SeveralNodes => true,
            // A point from before the end of a stretch that NATS lost.
            Promise::Bus { lost } => lost.iter().any(|it| from < it.until && it.from < at),
        };
        inexact || beyond || self.reused.contains(&named_id)
    }
}
