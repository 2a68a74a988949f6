//! The order of a stream: the one of commits, and the same for all.

use std::collections::HashMap;

use super::{Expected, Findings, Segment, connections};
use crate::{
    subscribers::{Behavior, Subscriber},
    transactions::{Ending, Token, Transaction},
};

impl Expected {
    /// Checks the order: a round whose transaction began after another's commit comes after it, and
    /// rounds of one transaction come by id. A resume that may repeat also brings older rounds, which
    /// a client that began with the latest one never had: they count as repeats.
    pub(super) fn check_order(&self, segment: &Segment, findings: &mut Findings) {
        let mut earliest = u64::MAX;
        let mut last_of: HashMap<usize, i64> = HashMap::new();
        let is_new = |token| self.committed(token).is_none_or(|at| at > segment.since);
        let is_due = |token| is_new(token) && !self.is_in_lost_stretch(token);
        let stream = segment.stream.iter().filter(|(_, token)| is_due(*token));
        for &(round_id, token) in stream.rev() {
            let began = self.transactions.get(token.tx).map_or(0, |tx| tx.began);
            if began > earliest {
                findings.out_of_order += 1;
                findings.details.push(format!("order: {round_id} {token:?} came too early"));
            }
            earliest = earliest.min(self.committed(token).unwrap_or(u64::MAX));
            let next = last_of.insert(token.tx, round_id);
            if next.is_some_and(|next| next < round_id) {
                findings.out_of_order += 1;
                findings.details.push(format!("order: {round_id} {token:?} before {next:?}"));
            }
        }
    }

    /// Whether the connections of a subscriber belong to one stream each, or all to one.
    pub(super) fn sees_one_stream(&self, subscriber: &Subscriber) -> bool {
        match subscriber.behavior {
            Behavior::Steady => true,
            Behavior::Slow | Behavior::Leaving => self.promise.is_of_bus(),
            Behavior::Forgetful => false,
        }
    }

    /// How many rounds there are whose order and resumes are not compared.
    pub(crate) fn rounds_in_lost_stretches(&self) -> usize {
        self.rows.iter().filter(|row| self.is_in_lost_stretch(row.token)).count()
    }

    /// Whether NATS lost the log at about the time of this round.
    fn is_in_lost_stretch(&self, token: Token) -> bool {
        let at = |tx: &Transaction| match tx.ending {
            Ending::Committed(at) => (tx.began, at),
            _ => (tx.began, u64::MAX),
        };
        let (began, committed) = self.transactions.get(token.tx).map_or((0, 0), at);
        self.promise.has_lost(began, committed)
    }

    /// Checks that all subscribers of a process saw the same order; with a bus, of all processes.
    pub(super) fn check_same_order(&self, subscriber: &Subscriber, findings: &mut Findings) {
        for (process, positions) in &self.positions(subscriber) {
            let Some(reference) = self.order.get(process) else { continue };
            let mut mine: Vec<_> =
                positions.iter().map(|(token, position)| (*position, *token)).collect();
            mine.sort_unstable_by_key(|(position, _)| *position);
            mine.retain(|(_, token)| !self.is_in_lost_stretch(*token));
            let theirs = mine.iter().filter_map(|(_, token)| reference.get(token));
            let theirs: Vec<_> = theirs.collect();
            let wrong = theirs.windows(2).filter(|pair| pair[0] > pair[1]).count();
            if wrong > 0 {
                findings.out_of_order += wrong;
                findings.details.push(format!("order: {wrong} unlike others of process {process}"));
            }
        }
    }

    /// The live rounds of each process, in the order in which this subscriber received them.
    pub(super) fn positions(&self, subscriber: &Subscriber) -> HashMap<u32, HashMap<Token, usize>> {
        let mut all: HashMap<u32, HashMap<Token, usize>> = HashMap::new();
        let mut since: HashMap<u32, u64> = HashMap::new();
        let connections = connections(subscriber);
        for (index, connection) in connections.iter().enumerate() {
            // A replay that may repeat rounds has the order of transactions.
            let before = connections[..index].iter().rev().find(|it| !it.rounds.is_empty());
            let is_inexact = self.may_repeat(connection, before, subscriber.selection.games);
            let stream = if self.promise.is_of_bus() { 0 } else { connection.process };
            let since = *since.entry(stream).or_insert(connection.connected);
            let positions = all.entry(stream).or_default();
            let since = if is_inexact { since.max(connection.connected) } else { since };
            for (_, token) in &connection.rounds {
                if self.transactions.get(token.tx).is_some_and(|tx| tx.began > since) {
                    let position = positions.len();
                    positions.entry(*token).or_insert(position);
                }
            }
        }
        all
    }
}
