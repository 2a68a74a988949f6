//! Compares the rounds that each subscriber received with the table.

mod order;
mod promise;

use std::collections::{HashMap, HashSet};

pub(crate) use self::promise::Promise;
use crate::{
    args::Args,
    subscribers::{ConnectionRecord, Subscriber, Transport},
    transactions::{Ending, Token, Transaction},
};

/// A finished round in the table at the end of the run.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) game: String,
    pub(crate) token: Token,
}

/// The rounds that subscribers should have received, and what explains exceptions.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) rows: Vec<Row>,
    present: HashSet<Token>,
    transactions: Vec<Transaction>,
    /// Commit times of the rounds of each game, in order.
    commits: HashMap<String, Vec<u64>>,
    /// Whether PostgreSQL may have lost commits.
    lossy: bool,
    /// When a resume must be exact.
    promise: Promise,
    /// Ids that PostgreSQL assigned to more than one round.
    reused: HashSet<i64>,
    /// The time of the first connection to each server process.
    starts: HashMap<u32, u64>,
    /// The positions of rounds in the stream of each process, from a steady subscriber to everything. With
    /// a bus all processes have one stream.
    order: HashMap<u32, HashMap<Token, usize>>,
}

/// The counts for one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) connections: usize,
    pub(crate) resumes: usize,
    pub(crate) gaps: usize,
    pub(crate) received: usize,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    /// Repeats that the contract allows: after a restart, on another node, or from the database.
    pub(crate) repeats: usize,
    pub(crate) uncommitted: usize,
    /// Rounds that were streamed and whose commits PostgreSQL then lost.
    pub(crate) lost_by_postgresql: usize,
    pub(crate) out_of_order: usize,
    pub(crate) details: Vec<String>,
}

/// The rounds that a subscriber received since its stream last started over.
struct Segment {
    since: u64,
    known: HashSet<Token>,
    /// In the order of their first arrival.
    stream: Vec<(i64, Token)>,
}

impl Expected {
    pub(crate) fn new(
        rows: Vec<Row>,
        transactions: Vec<Transaction>,
        subscribers: &[Subscriber],
        promise: Promise,
        args: &Args,
    ) -> Self {
        let present = rows.iter().map(|row| row.token).collect();
        let mut commits: HashMap<String, Vec<u64>> = HashMap::new();
        for row in &rows {
            let at = settled(&transactions, row.token);
            commits.entry(row.game.clone()).or_default().push(at);
        }
        commits.values_mut().for_each(|all| all.sort_unstable());
        let (reused, order) = (reused(subscribers), HashMap::new());
        let starts = starts(subscribers);
        let lossy = args.lossy;
        let mut expected =
            Self { rows, present, transactions, commits, lossy, promise, reused, starts, order };
        for one in subscribers.iter().filter(|one| one.sees_all()) {
            for (process, positions) in expected.positions(one) {
                expected.order.entry(process).or_insert(positions);
            }
        }
        expected
    }

    /// Checks one subscriber.
    pub(crate) fn check(&self, subscriber: &Subscriber) -> Findings {
        let connections = connections(subscriber);
        let mut findings = Findings { connections: connections.len(), ..Findings::default() };
        let games = subscriber.selection.games;
        let mut segment: Option<Segment> = None;
        for (index, connection) in connections.iter().enumerate() {
            findings.resumes += usize::from(connection.after.is_some());
            findings.gaps += usize::from(connection.gap);
            // No promise covers a session that ended before its first replay.
            if connection.starts_over
                && let Some(over) = segment.take()
                && subscriber.transport != Transport::WebTransport
            {
                self.check_complete(&over, games, false, &mut findings);
                self.check_order(&over, &mut findings);
            }
            let start = || Segment {
                since: connection.connected,
                known: HashSet::new(),
                stream: Vec::new(),
            };
            let segment = segment.get_or_insert_with(start);
            let before =
                connections[..index].iter().rev().find(|connection| !connection.rounds.is_empty());
            let may_repeat = match subscriber.transport {
                // It resumes after an older round than its last one.
                Transport::WebTransport => connection.after.is_some(),
                _ => self.may_repeat(connection, before, games),
            };
            self.check_connection(connection, may_repeat, segment, &mut findings);
        }
        if let Some(last) = segment {
            self.check_complete(&last, games, true, &mut findings);
            if subscriber.transport != Transport::WebTransport {
                self.check_order(&last, &mut findings);
            }
        }
        // Datagrams arrive in any order.
        if subscriber.transport != Transport::WebTransport && self.sees_one_stream(subscriber) {
            self.check_same_order(subscriber, &mut findings);
        }
        findings
    }

    fn check_connection(
        &self,
        connection: &ConnectionRecord,
        may_repeat: bool,
        segment: &mut Segment,
        findings: &mut Findings,
    ) {
        let mut here = HashSet::new();
        for &(round_id, token) in &connection.rounds {
            findings.received += 1;
            // Within one connection no round may repeat, whatever the resume point.
            let may_repeat = may_repeat && !here.contains(&token);
            here.insert(token);
            if !self.present.contains(&token) {
                self.absent(round_id, token, findings);
            } else if segment.known.insert(token) {
                segment.stream.push((round_id, token));
            } else if may_repeat {
                findings.repeats += 1;
            } else {
                findings.twice += 1;
                self.report(findings, "twice", round_id, token, connection);
            }
        }
    }

    fn absent(&self, round_id: i64, token: Token, findings: &mut Findings) {
        let ending = self.transactions.get(token.tx).map(|tx| tx.ending);
        if self.lossy && matches!(ending, Some(Ending::Committed(_) | Ending::Unknown)) {
            findings.lost_by_postgresql += 1;
        } else {
            findings.uncommitted += 1;
            findings.details.push(format!("uncommitted: round {round_id}, {token:?}, {ending:?}"));
        }
    }

    /// Checks that no round is missing since the stream started over. At the end of the run every
    /// round is due; before that, every round committed before the last round's transaction began.
    fn check_complete(
        &self,
        segment: &Segment,
        games: &[&str],
        end: bool,
        findings: &mut Findings,
    ) {
        let began = |token: Token| self.transactions.get(token.tx).map_or(u64::MAX, |tx| tx.began);
        let newest = segment.stream.iter().map(|(_, token)| began(*token)).max().unwrap_or(0);
        let limit = if end { u64::MAX } else { newest };
        for row in self.rows.iter().filter(|row| games.contains(&row.game.as_str())) {
            let due = began(row.token) > segment.since
                && (end || self.committed(row.token).is_some_and(|at| at < limit));
            if due && !segment.known.contains(&row.token) {
                findings.lost += 1;
                let tx = self.transactions.get(row.token.tx);
                findings.details.push(format!("lost: {row:?} of {tx:?}"));
            }
        }
    }

    fn committed(&self, token: Token) -> Option<u64> {
        match self.transactions.get(token.tx)?.ending {
            Ending::Committed(at) => Some(at),
            _ => None,
        }
    }

    fn report(
        &self,
        findings: &mut Findings,
        what: &str,
        id: i64,
        token: Token,
        connection: &ConnectionRecord,
    ) {
        let tx = self.transactions.get(token.tx);
        let ConnectionRecord { process, connected, after, .. } = connection;
        findings.details.push(format!(
            "{what}: round {id} {token:?} of {tx:?}, process {process}, connected {connected}, \
             after {after:?}"
        ));
    }
}

impl Findings {
    /// Whether the counts break a promise.
    pub(crate) fn is_bad(&self, lossy: bool) -> bool {
        let gaps = if lossy { 0 } else { self.gaps };
        self.lost + self.twice + self.uncommitted + self.out_of_order + gaps > 0
    }
}

/// The commit time of a round, or the start of its transaction if the writer did not learn of it.
fn settled(transactions: &[Transaction], token: Token) -> u64 {
    let transaction = transactions.get(token.tx);
    transaction.map_or(0, |tx| match tx.ending {
        Ending::Committed(at) => at,
        _ => tx.began,
    })
}

fn connections(subscriber: &Subscriber) -> Vec<ConnectionRecord> {
    subscriber.connections.lock().clone()
}

fn starts(subscribers: &[Subscriber]) -> HashMap<u32, u64> {
    let mut starts = HashMap::new();
    for connection in subscribers.iter().flat_map(connections) {
        let start = starts.entry(connection.process).or_insert(connection.connected);
        *start = connection.connected.min(*start);
    }
    starts
}

fn reused(subscribers: &[Subscriber]) -> HashSet<i64> {
    let mut first: HashMap<i64, Token> = HashMap::new();
    let mut reused = HashSet::new();
    for connection in subscribers.iter().flat_map(connections) {
        for (id, token) in connection.rounds {
            if *first.entry(id).or_insert(token) != token {
                reused.insert(id);
            }
        }
    }
    reused
}
